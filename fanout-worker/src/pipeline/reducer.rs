//! Decides what the worker does next. It is plain state: it waits for nothing, and reads no clock and no connection.
//!
//! What it guarantees, whatever comes:
//!
//! - It adds and gives up partitions between two batches alone. While a batch is in hand, the only events are the end of a
//!   transaction, which may show that partitions were lost, and the end of a pause.
//! - It takes a claim only if the worker still has the name under which it claimed and the assignment still holds.
//! - A partition that was lost is claimed again only by a view that began [`RECLAIM_PAUSE`] after the loss.
//! - Publications follow the order of the commits, since each commit is submitted before the next one starts.
//! - It stops before a transaction, never in the middle of one: when the stop is requested, when storage is away, or when this
//!   worker's registration has expired. After a stop, and when storage is away, it first publishes what was stored and then
//!   leaves the registry.
//!
//! [`RECLAIM_PAUSE`]: crate::ownership::owned_partitions::RECLAIM_PAUSE

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::vec;

use shared::domain::Partition;
use shared::storage::{PartitionBatch, Writers};

use super::decision::{Decision, Effect, Next, Report};
use super::event::{Event, Snapshot};
use crate::batch::split;
use crate::log_reader::BatchServers;
use crate::ownership::claimer::Claimed;
use crate::ownership::fence_poller::Fences;
use crate::ownership::{OwnedPartitions, assigned};
use crate::persist::{MAX_BYTES, MAX_ROWS, Persisted, StopReason};
use crate::publications::ReceiptRequests;
use crate::publisher::PendingPublication;

/// What the worker is doing.
enum Phase {
    /// It waits for input.
    Idle,
    /// It stores a batch.
    Storing(BatchInHand),
    /// It publishes what is committed, then leaves for this reason.
    HandingOver(StopReason),
    /// It leaves the registry.
    Leaving(StopReason),
    /// It waits for storage.
    StorageUnavailable,
    /// It has handed over.
    Ended,
}

/// A batch that is being stored.
struct BatchInHand {
    /// Its transactions that have not begun.
    parts: vec::IntoIter<Vec<PartitionBatch>>,
    servers: BatchServers,
    /// Whether the transaction in flight has as many rows as one may have.
    is_full: bool,
    /// Whether this worker turned out to no longer own some partitions.
    lost_some: bool,
}

/// The state of the worker.
pub(super) struct State {
    writers: Writers,
    partitions: u16,
    owned: OwnedPartitions,
    phase: Phase,
}

impl State {
    /// A worker that owns nothing yet, of so many `partitions`.
    pub(super) fn new(writers: Writers, partitions: u16) -> Self {
        Self {
            writers,
            partitions,
            owned: OwnedPartitions::default(),
            phase: Phase::Idle,
        }
    }

    /// Applies an event. The loop waits for what the last decision named, so that no other event can come.
    pub(super) fn apply(&mut self, event: Event, at: &Snapshot) -> Decision {
        match (std::mem::replace(&mut self.phase, Phase::Idle), event) {
            (Phase::Idle, event) => self.on_input(event, at),
            (
                Phase::Storing(batch),
                Event::Committed {
                    persisted,
                    receipt_requests,
                },
            ) => self.on_committed(batch, persisted, receipt_requests, at),
            (Phase::Storing(batch), Event::Paused) => self.store_next(batch, Vec::new(), at),
            (Phase::HandingOver(reason), Event::PublishingFinished) => {
                self.phase = Phase::Leaving(reason);
                Decision::of(self.drop_everything(), Next::Leave)
            }
            (Phase::Leaving(StopReason::Stopped), Event::Left) => {
                self.phase = Phase::Ended;
                Decision::of(Vec::new(), Next::Exit)
            }
            (Phase::Leaving(StopReason::StorageUnavailable), Event::Left)
            | (Phase::StorageUnavailable, Event::StorageChecked { answers: false }) => {
                self.phase = Phase::StorageUnavailable;
                Decision::of(Vec::new(), Next::CheckStorage)
            }
            (Phase::StorageUnavailable, Event::StorageChecked { answers: true }) => {
                self.follow(vec![Effect::Rejoin], at)
            }
            (Phase::StorageUnavailable, Event::StopRequested) => self.hand_over(Vec::new(), StopReason::Stopped),
            _ => unreachable!("the loop waited for something else"),
        }
    }

    fn on_input(&mut self, event: Event, at: &Snapshot) -> Decision {
        match event {
            Event::StopRequested => self.hand_over(Vec::new(), StopReason::Stopped),
            Event::ClaimsFail => self.hand_over(Vec::new(), StopReason::StorageUnavailable),
            Event::Claimed(claimed) => self.on_claimed(claimed, at),
            Event::FencesPolled(fences) => self.on_fences(&fences, at),
            Event::Read { servers, batches } => {
                let batch = BatchInHand {
                    parts: split(batches, MAX_ROWS, MAX_BYTES).into_iter(),
                    servers,
                    is_full: false,
                    lost_some: false,
                };
                self.store_next(batch, Vec::new(), at)
            }
            Event::ReaderFailed => {
                self.owned.lose_all(at.now);
                self.follow(vec![Effect::Report(Report::ReaderFailed), self.assign()], at)
            }
            Event::Started | Event::ViewChanged | Event::Announced => self.follow(Vec::new(), at),
            Event::Committed { .. }
            | Event::Paused
            | Event::PublishingFinished
            | Event::Left
            | Event::StorageChecked { .. } => unreachable!("the loop waited for input"),
        }
    }

    /// Adds the claims that still hold: this worker has the name under which it claimed, and the partition is assigned to it. A
    /// claim that is dropped here may have excluded another worker, which notices by a refused commit.
    fn on_claimed(&mut self, Claimed { owner, mut claims }: Claimed, at: &Snapshot) -> Decision {
        let wanted = self.wanted(at);
        claims.retain(|claim| owner == at.view.me && wanted.contains(&claim.partition));
        if claims.is_empty() {
            return self.follow(Vec::new(), at);
        }
        let claimed: Vec<Partition> = claims.iter().map(|claim| claim.partition).collect();
        self.owned.add(claims);
        let effects = vec![self.assign(), self.report(at, claimed.len(), 0)];
        Decision::of(effects, Next::Announce(claimed))
    }

    /// Drops what another worker has claimed by the fences in SQL.
    fn on_fences(&mut self, fences: &Fences, at: &Snapshot) -> Decision {
        let outdated = self.owned.outdated(fences);
        if outdated.is_empty() {
            return self.follow(Vec::new(), at);
        }
        self.owned.lose(&outdated, at.now);
        let report = Effect::Report(Report::ClaimedByAnother(outdated.len()));
        self.follow(vec![report, self.assign()], at)
    }

    fn on_committed(
        &mut self,
        mut batch: BatchInHand,
        persisted: Persisted,
        receipt_requests: ReceiptRequests,
        at: &Snapshot,
    ) -> Decision {
        let mut trimmable = Vec::new();
        for (partition, progress) in persisted.progress {
            if !persisted.lost.contains(&partition) {
                self.owned.advance(partition, progress.cursor);
                trimmable.push((partition, progress.last));
            }
        }
        self.owned.lose(&persisted.lost, at.now);
        batch.lost_some |= !persisted.lost.is_empty();
        let publication = PendingPublication {
            stored: persisted.stored,
            receipt_requests,
            trimmable,
        };
        let servers = batch.servers.clone();
        let effects = vec![Effect::Publish { servers, publication }];
        if let Some(reason) = persisted.stopped_by {
            return self.hand_over(effects, reason);
        }
        if batch.is_full && self.writers == Writers::One {
            self.phase = Phase::Storing(batch);
            return Decision::of(effects, Next::Pause);
        }
        self.store_next(batch, effects, at)
    }

    /// Begins the next transaction of `batch`. If this worker's registration has expired or a stop was requested meanwhile, the
    /// rest is left to the next reader.
    fn store_next(&mut self, mut batch: BatchInHand, mut effects: Vec<Effect>, at: &Snapshot) -> Decision {
        let Some(mut part) = batch.parts.next() else {
            if batch.lost_some {
                effects.push(self.assign());
            }
            return self.follow(effects, at);
        };
        if at.is_stopping {
            return self.hand_over(effects, StopReason::Stopped);
        }
        if at.view.living_at(at.now).is_empty() {
            effects.extend(self.drop_everything());
            return self.follow(effects, at);
        }
        part.retain(|batch| self.owned.get(batch.claim.partition).is_some());
        batch.is_full = part.iter().map(|batch| batch.entries.len()).sum::<usize>() >= MAX_ROWS;
        self.phase = Phase::Storing(batch);
        Decision::of(effects, Next::Commit(part))
    }

    /// Gives up what is assigned to another worker, claims what is assigned to this one, and waits for input.
    fn follow(&mut self, mut effects: Vec<Effect>, at: &Snapshot) -> Decision {
        self.phase = Phase::Idle;
        let wanted = self.wanted(at);
        let given_up = self.owned.retain(&wanted);
        if given_up > 0 {
            effects.extend([self.assign(), self.report(at, 0, given_up)]);
        }
        let partitions = self.owned.claimable(&wanted, &at.view);
        effects.push(if partitions.is_empty() {
            Effect::ClaimNothing
        } else {
            let owner = at.view.me.clone();
            Effect::Claim { partitions, owner }
        });
        if !self.owned.is_empty() {
            effects.push(Effect::PollFences);
        }
        Decision::of(effects, Next::Input)
    }

    /// Publishes what is committed, to leave then.
    fn hand_over(&mut self, mut effects: Vec<Effect>, reason: StopReason) -> Decision {
        if reason == StopReason::StorageUnavailable {
            effects.push(Effect::Report(Report::StorageUnavailable));
        }
        self.phase = Phase::HandingOver(reason);
        Decision::of(effects, Next::FinishPublishing)
    }

    fn drop_everything(&mut self) -> Vec<Effect> {
        self.owned.clear();
        vec![Effect::ForgetClaim, self.assign()]
    }

    /// What is assigned to this worker.
    fn wanted(&self, at: &Snapshot) -> BTreeSet<Partition> {
        assigned(self.writers, at.view.living_at(at.now), &at.view.me, self.partitions)
    }

    fn assign(&self) -> Effect {
        Effect::Assign(self.owned.claims().copied().collect())
    }

    fn report(&self, at: &Snapshot, claimed: usize, given_up: usize) -> Effect {
        Effect::Report(Report::Owns {
            me: at.view.me.clone(),
            owned: self.owned.len(),
            claimed,
            given_up,
        })
    }
}
