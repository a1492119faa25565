//! Measures all loads and all criterion benches, and compares the figures with their thresholds.
//!
//! ```text
//! LOADS ──► loadtest, a process for each ──┐
//!                                          ├──► Report ──► figures.json ──► table.md, streams.svg, batches.svg
//! cargo bench ──► criterion's files ───────┘                    ▲
//!                                              THRESHOLDS ──────┘
//! ```
//!
//! Tables and charts are made from `figures.json` alone, so that they can be made again without measuring again. The
//! bounds that figures must keep are in `thresholds` and nowhere else.

mod charts;
mod criterion;
mod loads;
mod loadtest_process;
mod machine;
mod markdown;
mod output;
mod provenance;
mod report;
mod svg;
mod table;
mod thresholds;

pub use criterion::{BENCHES, Timing, run_bench};
pub use loads::{LOADS, Load};
pub use loadtest_process::{LoadOverrides, run_load};
pub use machine::Machine;
pub use output::{images, save};
pub use provenance::Provenance;
pub use report::{Outcome, Report, Round};
pub use table::tables;
pub use thresholds::{Bound, THRESHOLDS, Threshold, ThresholdResult, evaluate};
