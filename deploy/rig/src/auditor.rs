//! Looks into Redis, the database and the processes while a run goes on, past all proxies.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::accept_log::AcceptLog;
use crate::evidence::MemorySample;
use crate::service::ProcessCell;
use crate::stack::Spread;
use crate::traffic::Book;
use crate::{Database, Result, Stack};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(700);
/// How long one look may take; a server that is being killed may never answer.
const WITHIN: Duration = Duration::from_secs(5);
/// Ids looked up in one statement.
const IDS_AT_ONCE: usize = 5_000;

/// What it found.
#[derive(Default)]
pub(crate) struct Findings {
    /// Acknowledged, and neither in the accept log nor in the database.
    pub(crate) missing: Vec<Uuid>,
    /// The highest memory of each process.
    pub(crate) memory: Vec<MemorySample>,
    /// Looks that came to a result.
    pub(crate) looks: usize,
}

/// One auditor of one stack.
pub(crate) struct Auditor {
    log: AcceptLog,
    database: String,
    processes: Vec<ProcessCell>,
    book: Arc<Book>,
    /// Held while it looks.
    audits: Arc<Mutex<()>>,
    /// Acknowledged ids that were looked for and found in the database; the rest is looked for again.
    known: usize,
    open: Vec<Uuid>,
    findings: Findings,
}

impl Auditor {
    pub(crate) fn new(stack: &mut Stack, book: Arc<Book>, audits: Arc<Mutex<()>>) -> Self {
        let mut processes = vec![stack.redis.service.cell()];
        processes.extend(stack.spread.iter().flat_map(Spread::cells));
        processes.extend(stack.workers().map(|worker| worker.service.cell()));
        processes.extend(stack.gateways.iter().map(|gateway| gateway.service.cell()));
        Self {
            log: stack.accept_log(),
            database: stack.database_url().to_owned(),
            processes,
            book,
            audits,
            known: 0,
            open: Vec::new(),
            findings: Findings::default(),
        }
    }

    /// Looks every now and then until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Findings {
        while !stop.is_cancelled() {
            self.weigh();
            // While Redis or the database is down there is nothing to be seen: the next look sees it.
            if let Ok(Ok(())) = tokio::time::timeout(WITHIN, self.look()).await {
                self.findings.looks += 1;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(EVERY) => {}
            }
        }
        self.findings
    }

    /// Compares what was acknowledged with the accept log and then with the database. In this order: what is not in the
    /// log any more was committed before, so the database has it.
    async fn look(&mut self) -> Result<()> {
        let _alone = Arc::clone(&self.audits).lock_owned().await;
        let fresh = self.book.acknowledged_since(self.known);
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
        self.findings.missing.extend(open.iter().filter(|id| !logged.contains(id)));
        open.retain(|id| logged.contains(id));
        self.known += fresh.len();
        self.open = open;
        Ok(())
    }

    fn weigh(&mut self) {
        for process in &self.processes {
            let Some(kib) = process.resident_kib() else {
                continue;
            };
            let samples = &mut self.findings.memory;
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
