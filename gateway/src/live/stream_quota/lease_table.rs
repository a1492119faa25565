//! Table of the leases that this process holds. The number of connections bounds it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use shared::domain::{StreamKey, UserId};
use tokio::sync::Notify;

use crate::live::peer_liveness::TcpEndpoints;
use crate::live::stream_registry::RegisteredStream;

/// Whom a stream is counted for, and how to end it. There are many of them, so Redis keys are built when they are needed.
pub(super) struct LeaseHolder {
    pub(super) user: UserId,
    pub(super) address: IpAddr,
    /// A digest of the session, the room and the name that the client gave itself.
    pub(super) client: Option<String>,
    pub(super) endpoints: Option<TcpEndpoints>,
    pub(super) registered: Arc<RegisteredStream>,
}

#[derive(Default)]
pub(super) struct LeaseTable {
    open: Mutex<HashMap<StreamKey, Arc<LeaseHolder>>>,
    /// Ended, and still counted in Redis.
    ended: Mutex<Vec<(StreamKey, Arc<LeaseHolder>)>>,
    has_ended: Notify,
    count: AtomicU64,
}

impl LeaseTable {
    /// The number of the next stream.
    pub(super) fn next_number(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn insert(&self, stream: StreamKey, holder: Arc<LeaseHolder>) {
        self.open.lock().insert(stream, holder);
    }

    pub(super) fn end(&self, stream: StreamKey) {
        let ended = self.open.lock().remove(&stream);
        if let Some(holder) = ended {
            self.ended.lock().push((stream, holder));
            self.has_ended.notify_one();
        }
    }

    /// Waits until some have ended.
    pub(super) async fn ended(&self) {
        self.has_ended.notified().await;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.lock().is_empty()
    }

    pub(super) fn drain_ended(&self) -> Vec<(StreamKey, Arc<LeaseHolder>)> {
        std::mem::take(&mut *self.ended.lock())
    }

    pub(super) fn open(&self) -> Vec<(StreamKey, Arc<LeaseHolder>)> {
        self.open.lock().iter().map(|(stream, holder)| (*stream, Arc::clone(holder))).collect()
    }

    pub(super) fn registered(&self, stream: StreamKey) -> Option<Arc<RegisteredStream>> {
        self.open.lock().get(&stream).map(|holder| Arc::clone(&holder.registered))
    }

    /// The open streams of a user.
    pub(super) fn streams_of(&self, user: UserId) -> Vec<(Option<TcpEndpoints>, Arc<RegisteredStream>)> {
        let open = self.open.lock();
        let of_user = open.values().filter(|holder| holder.user == user);
        of_user.map(|holder| (holder.endpoints, Arc::clone(&holder.registered))).collect()
    }
}
