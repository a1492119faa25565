//! Samples Redis, the database and the processes while a run goes on, past all proxies.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::accept_log::AcceptLog;
use crate::database::Database;
use crate::evidence::MemorySample;
use crate::failure::Result;
use crate::restartable_process::ProcessHandle;
use crate::stack::{RedisGroup, Stack};
use crate::traffic::Recorder;

/// Time between two samples.
const EVERY: Duration = Duration::from_millis(700);
/// How long one sample may take; a server that is being killed may never answer.
const WITHIN: Duration = Duration::from_secs(5);
/// Ids looked up in one statement.
const IDS_AT_ONCE: usize = 5_000;

/// What the samples showed.
#[derive(Default)]
pub(crate) struct SampledState {
    /// Acknowledged, and neither in the accept log nor in the database.
    pub(crate) missing: Vec<Uuid>,
    /// The highest memory of each process.
    pub(crate) memory: Vec<MemorySample>,
    /// Samples that could be completed.
    pub(crate) samples: usize,
}

/// The sampler of one stack.
pub(crate) struct StateSampler {
    log: AcceptLog,
    database: String,
    processes: Vec<ProcessHandle>,
    recorder: Arc<Recorder>,
    /// Held while a sample is taken.
    sampling_lock: Arc<Mutex<()>>,
    /// How many acknowledged ids were looked for so far.
    known: usize,
    /// Those of them that were not in the database yet; they are looked for again.
    open: Vec<Uuid>,
    state: SampledState,
}

impl StateSampler {
    pub(crate) fn new(stack: &mut Stack, recorder: Arc<Recorder>, sampling_lock: Arc<Mutex<()>>) -> Self {
        let mut processes = vec![stack.redis.process.handle()];
        processes.extend(stack.redis_group.iter().flat_map(RedisGroup::processes));
        processes.extend(stack.workers().map(|worker| worker.process.handle()));
        processes.extend(stack.gateways.iter().map(|gateway| gateway.process.handle()));
        Self {
            log: stack.accept_log(),
            database: stack.database_url().to_owned(),
            processes,
            recorder,
            sampling_lock,
            known: 0,
            open: Vec::new(),
            state: SampledState::default(),
        }
    }

    /// Takes samples until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> SampledState {
        while !stop.is_cancelled() {
            self.sample_memory();
            // While Redis or the database is down a sample fails; the next one covers its ids.
            if let Ok(Ok(())) = tokio::time::timeout(WITHIN, self.sample_messages()).await {
                self.state.samples += 1;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(EVERY) => {}
            }
        }
        self.state
    }

    /// Compares what was acknowledged with the accept log and then with the database. The order matters: what is no longer
    /// in the log was committed before, so the database has it.
    async fn sample_messages(&mut self) -> Result<()> {
        let _alone = Arc::clone(&self.sampling_lock).lock_owned().await;
        let fresh = self.recorder.acknowledged_since(self.known);
        let mut open = self.open.clone();
        open.extend(&fresh);
        let logged = self.log.ids().await?;
        let mut database = Database::open(&self.database).await?;
        let mut stored = HashSet::new();
        for part in open.chunks(IDS_AT_ONCE) {
            stored.extend(database.stored(part).await?);
        }
        database.close().await?;
        open.retain(|id| !stored.contains(id));
        self.state.missing.extend(open.iter().filter(|id| !logged.contains(id)));
        open.retain(|id| logged.contains(id));
        self.known += fresh.len();
        self.open = open;
        Ok(())
    }

    fn sample_memory(&mut self) {
        for process in &self.processes {
            let Some(kib) = process.resident_kib() else {
                continue;
            };
            let samples = &mut self.state.memory;
            match samples.iter_mut().find(|sample| sample.process == process.name()) {
                Some(sample) => sample.kib = sample.kib.max(kib),
                None => samples.push(MemorySample {
                    process: process.name().to_owned(),
                    kib,
                }),
            }
        }
    }
}
