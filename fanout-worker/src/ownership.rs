//! Partition ownership: liveness in Redis, safety in SQL.
//!
//! A room keeps its order because one worker at a time commits the entries of the room's partition. Which worker that is
//! follows from three facts, each kept where it can be kept:
//!
//! 1. **Who is alive** ([`worker_registry`]): every worker renews its registration in one sorted set in Redis and reads who
//!    else has one. A registration that is not renewed for [`TTL`](view::TTL) expires; that of a worker which is not connected
//!    to Redis expires after [`GRACE`](view::GRACE).
//! 2. **Who should own what** ([`assignment`]): a pure function of the living workers and the partition. Workers that know the
//!    same living workers compute the same; none is asked, and none decides for others.
//! 3. **Who owns it** ([`owned_partitions`], and the table `cursors` in SQL): a worker that should own a partition claims it.
//!    The claim raises the partition's fence number in SQL and returns the cursor, the position up to which everything is
//!    stored. From that moment on no other worker can commit to the partition.
//!
//! # Why it is safe
//!
//! The first two may be wrong at any time: a host pauses a worker, a worker is cut off from Redis, Redis fails over and loses
//! writes, two workers know different living workers for a moment. Nothing depends on them being right. Every commit checks, in
//! its own transaction, that the fence of each partition is still the one that was claimed *and* that the cursor stands where
//! the batch begins, and moves the cursor together with the rows. So:
//!
//! - a worker that was replaced cannot write one row, whenever it resumes and whatever it believes;
//! - the entries of a batch are stored once, also when the reply to its commit was lost: the second attempt finds the cursor
//!   moved and is refused, and the worker claims again and reads on behind it;
//! - a successor starts exactly behind its predecessor's last commit, since it learns the cursor by the very statement that
//!   shuts the predecessor out. Batches of one partition are therefore committed in the order of the accept log, by
//!   however many workers.
//!
//! Being wrong about the first two costs time alone. Two workers that both believe to own a partition take it from each other;
//! each claims back what it lost only by a view that is [`RECLAIM_PAUSE`](owned_partitions::RECLAIM_PAUSE) later than the loss,
//! longer than it takes both to know the same living workers. So the conflict ends when their views agree, and each commit in
//! between counts. A worker that loses a partition while it has nothing to commit notices by its poll of the fences
//! ([`fence_poller`]).
//!
//! # How it changes hands
//!
//! | | what happens | how long nothing is stored |
//! |---|---|---|
//! | a worker stops | it finishes its batch and removes its registration; the others see that at their next heartbeat | ≤ 0.3 s |
//! | it is killed, or panics | its connection ends, and its registration soon after | ≤ 0.6 s |
//! | it is paused, its machine vanishes, or the network drops packets | its registration expires; when it resumes it sees that by its own clock | ≤ 1.7 s |
//! | it is cut off from SQL | it removes its registration after 2 s, and registers anew when SQL answers again | ≤ 2.5 s |
//! | a worker joins | it claims its share, which the former owners learn by a refused commit or from the registry | a claim |
//!
//! The new owner announces what it has claimed, since its predecessor may have died between commit and publication; the
//! gateways then compare the heads of their rooms with SQL.
//!
//! With a store that has one writer (SQLite) the oldest living worker owns everything and the others stand by. A worker whose
//! registration expired comes back as the youngest, so that nothing changes hands without need.

pub mod assignment;
pub mod claimer;
pub mod fence_poller;
mod heartbeat;
pub mod owned_partitions;
pub mod view;
pub mod worker_registry;

pub use assignment::assigned;
pub use claimer::Claimer;
pub use fence_poller::FencePoller;
pub use owned_partitions::OwnedPartitions;
pub use view::{View, WorkerName};
pub use worker_registry::WorkerRegistry;
