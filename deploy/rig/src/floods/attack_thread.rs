//! Runs an attack on a thread of its own.

use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::context::{FloodContext, Prepare};
use crate::failure::{Explain as _, Failure, Result};

/// An attack that is ready to begin. Its thread is separate, so that its work does not delay the clients that are measured.
pub(super) struct AttackThread {
    begin: oneshot::Sender<()>,
    ended: oneshot::Receiver<Failure>,
}

impl AttackThread {
    /// Makes the attack of a flood called `name` ready.
    pub(super) async fn prepare(name: &str, prepare: Prepare, context: Arc<FloodContext>) -> Result<Self> {
        let (is_ready, ready) = oneshot::channel();
        let (begin, signal) = oneshot::channel::<()>();
        let (mut end, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let attack = match prepare(context).await {
                    Ok(attack) => attack,
                    Err(failure) => return drop(is_ready.send(Err(failure))),
                };
                if is_ready.send(Ok(())).is_err() || signal.await.is_err() {
                    return;
                }
                tokio::select! {
                    () = end.closed() => {}
                    outcome = attack => {
                        let failure = outcome.err().unwrap_or_else(|| Failure::new("it ended by itself"));
                        let _ = end.send(failure);
                    }
                }
            });
        });
        let prepared = ready.await.explain(|| "preparing".to_owned())?;
        prepared.explain(|| format!("preparing {name}"))?;
        Ok(Self { begin, ended })
    }

    /// Lets it begin. It ends when the returned receiver is dropped; until then the receiver gets the reason if the attack
    /// cannot be carried on.
    pub(super) fn begin(self) -> oneshot::Receiver<Failure> {
        // If the thread has ended, the other channel is closed as well.
        let _ = self.begin.send(());
        self.ended
    }
}
