//! The matrix of faults: what is injected, how often, and what must come of it.
//!
//! Each fault is a row of a table ([`MATRIX`]) whose function injects it into a [`FaultRun`](crate::fault_run::FaultRun) so
//! many times and returns; the run then ends all faults, lets everything arrive and has the oracle judge. What a fault
//! demands beside the invariants is checked by its function, or by [`Fault::run`] where it concerns what the clients saw.

mod aborts;
mod fault;
mod kills;
mod links;
mod mass_reconnect;
mod matrix;
mod negative_control;
mod out_of_space;
mod redis_failover;
mod restore;
mod scaling;
mod stalled_readers;

pub use self::fault::Fault;
pub use self::matrix::{MATRIX, find};
