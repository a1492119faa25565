//! Measures all there is to measure, and puts it beside what is demanded.
//!
//! ```text
//! LOADS ──► loadtest, a process for each ──┐
//!                                          ├──► Report ──► figures.json ──► table.md, streams.svg, batches.svg
//! cargo bench ──► criterion's files ───────┘                    ▲
//!                                                DEMANDS ───────┘
//! ```
//!
//! Everything that is shown follows from `figures.json` alone, so that it can be shown in another way without measuring
//! again. What a figure is judged by stands in `demands` and nowhere else.

mod charts;
mod child;
mod criterion;
mod demands;
mod loads;
mod machine;
mod markdown;
mod report;
mod svg;
mod table;

pub use child::{Pace, run};
pub use criterion::{BENCHES, Timing, measure};
pub use demands::{Bound, DEMANDS, Demand, Judged, judge};
pub use loads::{LOADS, Load};
pub use machine::Machine;
pub use report::{Outcome, Report, Round};
