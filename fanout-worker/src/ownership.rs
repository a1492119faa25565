//! Which worker stores which partition: liveness in Redis, safety in SQL.
//!
//! A room keeps its order because one worker at a time commits what comes through the room's partition. Who that is
//! follows from three facts, each kept where it can be kept:
//!
//! 1. **Who is alive** ([`worker_registry`]): every worker renews its place in one sorted set in Redis, that of the workers, and
//!    reads who else is in it. A place that is not renewed for [`TTL`](worker_registry::TTL) is gone; that of a worker which is no
//!    longer connected to Redis is gone after [`GRACE`](worker_registry::GRACE).
//! 2. **Who should have what** ([`assignment`]): a pure function of the living and the partition. Whoever knows the same
//!    living comes to the same answer; nobody is asked, nobody decides for others.
//! 3. **Who has it** ([`owned_partitions`], and the table `cursors` in SQL): a worker that should have a partition claims it. The
//!    claim raises the partition's fence number in SQL and returns the cursor, the place up to which everything is
//!    stored. From that moment on nobody else can commit to the partition.
//!
//! # Why it is safe
//!
//! The first two may be wrong at any time: a worker is paused by its host, is cut off from Redis, Redis fails over and
//! forgets, two workers know different living for a moment. Nothing depends on them being right. Every commit checks, in
//! its own transaction, that the fence of each partition is still the one that was claimed *and* that the cursor stands
//! where the batch begins, and moves the cursor together with the rows. So:
//!
//! - a worker that was replaced cannot write one row, whenever it wakes up and whatever it believes;
//! - what one batch holds is stored once, also when the reply to its commit was lost: the second attempt finds the cursor
//!   moved and is refused, and the worker claims again and reads on behind it;
//! - a successor starts exactly behind its predecessor's last commit, since it learns the cursor by the very statement that
//!   shuts the predecessor out. Batches of one partition are therefore committed in the order of the accept log, by
//!   however many workers.
//!
//! Being wrong about the first two costs time alone. Two workers that both believe in having a partition take it from each
//! other; each claims what was taken from it only by a view that is [`RECLAIM_PAUSE`](owned_partitions::RECLAIM_PAUSE) later than the
//! loss, longer than it takes both to learn the same living. So the argument ends with their views, and each commit in
//! between counts. A worker that was robbed while it had nothing to commit sees that by its look at the fences
//! ([`fence_poller`]).
//!
//! # How it changes hands
//!
//! | | what happens | how long nobody stores |
//! |---|---|---|
//! | a worker stops | finishes its batch, takes its place out of the set; the others see it at their next beat | ≤ 0.3 s |
//! | it is killed, or breaks down | its connection ends, and its place with it | ≤ 0.6 s |
//! | it is paused, its machine vanishes, or the network swallows what is sent | its place runs out; on waking it sees by its own clock that its place is lost | ≤ 1.7 s |
//! | it is cut off from SQL | gives up its place after 2 s, takes a new one when SQL answers again | ≤ 2.5 s |
//! | a worker joins | claims its share, which the former owners learn by a refused commit or from the set | a claim |
//!
//! The new owner announces what it has taken, since its predecessor may have died between commit and publication; the
//! gateways then compare the heads of their rooms with SQL.
//!
//! With a store that has one writer (SQLite) the oldest of the living has everything and the others stand by. A worker
//! that lost its place comes back as the youngest, so that nothing changes hands without need.

pub mod assignment;
pub mod claimer;
pub mod fence_poller;
mod heartbeat;
pub mod owned_partitions;
pub mod worker_registry;

pub use assignment::assigned;
pub use claimer::Claimer;
pub use fence_poller::FencePoller;
pub use owned_partitions::OwnedPartitions;
pub use worker_registry::{View, WorkerName, WorkerRegistry};
