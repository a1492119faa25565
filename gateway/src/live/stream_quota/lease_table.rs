//! The leases of this process. Bounded by the number of connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::domain::{StreamKey, UserId};
use tokio::sync::Notify;

use crate::live::peer_liveness::TcpEndpoints;
use crate::live::stream_registry::RegisteredStream;

/// Whom a stream is counted for, and how to end it. There are many of them: keys are made when they are needed.
#[derive(Clone)]
pub(super) struct LeaseHolder {
    pub(super) user: UserId,
    pub(super) address: IpAddr,
    /// A digest of session, room and the client's name for itself.
    pub(super) client: Option<String>,
    pub(super) endpoints: Option<TcpEndpoints>,
    pub(super) connection: Arc<RegisteredStream>,
}

#[derive(Default)]
pub(super) struct LeaseTable {
    open: Mutex<HashMap<StreamKey, LeaseHolder>>,
    /// Ended, and still counted.
    ended: Mutex<Vec<(StreamKey, LeaseHolder)>>,
    has_ended: Notify,
    count: AtomicU64,
}

impl LeaseTable {
    /// The number of the next stream.
    pub(super) fn next_number(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn begin(&self, stream: StreamKey, holder: LeaseHolder) {
        lock(&self.open).insert(stream, holder);
    }

    pub(super) fn end(&self, stream: StreamKey) {
        let ended = lock(&self.open).remove(&stream);
        if let Some(holder) = ended {
            lock(&self.ended).push((stream, holder));
            self.has_ended.notify_one();
        }
    }

    /// Waits until some have ended.
    pub(super) async fn ended(&self) {
        self.has_ended.notified().await;
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.open).is_empty()
    }

    pub(super) fn drain_ended(&self) -> Vec<(StreamKey, LeaseHolder)> {
        std::mem::take(&mut *lock(&self.ended))
    }

    pub(super) fn open(&self) -> Vec<(StreamKey, LeaseHolder)> {
        lock(&self.open).iter().map(|(stream, holder)| (*stream, holder.clone())).collect()
    }

    pub(super) fn connection(&self, stream: StreamKey) -> Option<Arc<RegisteredStream>> {
        lock(&self.open).get(&stream).map(|holder| Arc::clone(&holder.connection))
    }

    /// The connections of a user's streams.
    pub(super) fn streams_of(&self, user: UserId) -> Vec<(Option<TcpEndpoints>, Arc<RegisteredStream>)> {
        let open = lock(&self.open);
        let of_user = open.values().filter(|holder| holder.user == user);
        of_user.map(|holder| (holder.endpoints, Arc::clone(&holder.connection))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is guarded here can be left half changed by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
