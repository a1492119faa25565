//! The decisions of the reducer: effects that the loop executes at once, and what it waits for then.

use shared::domain::Partition;
use shared::storage::{Claim, PartitionBatch};

use crate::log_reader::BatchServers;
use crate::ownership::WorkerName;
use crate::publisher::PendingPublication;

/// What the loop does at once.
pub(super) enum Effect {
    /// Read these claims, each from its cursor, and nothing else.
    Assign(Vec<Claim>),
    /// Claim these partitions, unless a claim is in flight or has just failed.
    Claim {
        /// What to claim.
        partitions: Vec<Partition>,
        /// The name of this worker.
        owner: WorkerName,
    },
    /// There is nothing to claim, so that earlier failures of claims do not count.
    ClaimNothing,
    /// Ignore the claim in flight.
    ForgetClaim,
    /// Ask SQL for the fences, if it is time.
    PollFences,
    /// Publish what was committed, then let it be trimmed.
    Publish {
        /// Where it was read.
        servers: BatchServers,
        /// What was committed.
        publication: PendingPublication,
    },
    /// Enter the registry again.
    Rejoin,
    /// Write a line to the log.
    Report(Report),
}

/// A log line about a decision.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// How many partitions this worker owns, after a change.
    Owns {
        /// Its name.
        me: WorkerName,
        /// How many it owns.
        owned: usize,
        /// How many it has claimed.
        claimed: usize,
        /// How many it gave up.
        given_up: usize,
    },
    /// So many partitions were claimed by another worker.
    ClaimedByAnother(usize),
    /// A task of the log reader panicked.
    ReaderFailed,
    /// Storage does not answer.
    StorageUnavailable,
}

/// What the loop waits for.
pub(super) enum Next {
    /// Whatever comes first: a stop, a claim, fences, a view, entries.
    Input,
    /// The end of a transaction with these entries.
    Commit(Vec<PartitionBatch>),
    /// The end of a pause, in which others may write.
    Pause,
    /// That the gateways know of these partitions, which this worker has claimed.
    Announce(Vec<Partition>),
    /// That everything committed is published and trimmed.
    FinishPublishing,
    /// That this worker has left the registry.
    Leave,
    /// Whether storage answers, after a pause.
    CheckStorage,
    /// Nothing: the worker has handed over.
    Exit,
}

/// What the reducer decided: the effects, in their order, and what comes after them.
pub(super) struct Decision {
    pub(super) effects: Vec<Effect>,
    pub(super) next: Next,
}

impl Decision {
    pub(super) fn of(effects: Vec<Effect>, next: Next) -> Self {
        Self { effects, next }
    }
}
