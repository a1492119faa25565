//! What the load cost each process: processor time for a delivery or a request, memory for a stream.

use serde::{Deserialize, Serialize};

use crate::results::process_usage::ProcessUsage;

/// Processor time of a process in a window, and its memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessCpu {
    /// Name of the process.
    pub name: String,
    /// Processor time in seconds, on all cores together.
    pub cpu_s: f64,
    /// Seconds for a million deliveries, if there were any.
    pub cpu_s_per_million_deliveries: Option<f64>,
    /// Microseconds for a request, if there were any.
    pub cpu_us_per_request: Option<f64>,
    /// Resident memory at the end of the window, under load.
    pub resident_kib: u64,
}

/// Memory of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessMemory {
    /// Name of the process.
    pub name: String,
    /// Resident memory before the first stream was opened.
    pub before_kib: u64,
    /// Resident memory when all streams were open and nothing had been posted.
    pub open_kib: u64,
    /// Resident memory at the end of the load.
    pub after_kib: u64,
    /// Growth for each stream while the streams were opened, where it was measured and is not negative.
    pub kib_per_stream: Option<f64>,
}

impl ProcessCpu {
    /// The processor time between two measurements, for so many deliveries and requests.
    pub(crate) fn between(
        before: &[ProcessUsage],
        after: &[ProcessUsage],
        deliveries: u64,
        requests: u64,
    ) -> Vec<Self> {
        let cpu = |(before, after): (&ProcessUsage, &ProcessUsage)| {
            let cpu_s = after.cpu_s - before.cpu_s;
            Self {
                name: after.name.clone(),
                cpu_s,
                cpu_s_per_million_deliveries: ratio(cpu_s * 1e6, as_f64(deliveries)),
                cpu_us_per_request: ratio(cpu_s * 1e6, as_f64(requests)),
                resident_kib: after.resident_kib,
            }
        };
        pairs(before, after).map(cpu).collect()
    }
}

impl ProcessMemory {
    /// The memory before the streams were opened, when they were open, and at the end. With `streams`, the memory of a
    /// stream is the growth while so many streams were opened.
    pub(crate) fn of(
        before: &[ProcessUsage],
        open: &[ProcessUsage],
        after: &[ProcessUsage],
        streams: Option<usize>,
    ) -> Vec<Self> {
        let memory = |(before, open): (&ProcessUsage, &ProcessUsage)| Self {
            name: open.name.clone(),
            before_kib: before.resident_kib,
            open_kib: open.resident_kib,
            after_kib: after.iter().find(|usage| usage.name == open.name).map_or(0, |usage| usage.resident_kib),
            kib_per_stream: streams
                .zip(open.resident_kib.checked_sub(before.resident_kib))
                .and_then(|(streams, kib)| ratio(as_f64(kib), as_f64(streams as u64))),
        };
        pairs(before, open).map(memory).collect()
    }
}

/// The measurements of the same process in both lists.
fn pairs<'a>(
    before: &'a [ProcessUsage],
    after: &'a [ProcessUsage],
) -> impl Iterator<Item = (&'a ProcessUsage, &'a ProcessUsage)> {
    after
        .iter()
        .filter_map(|after| Some((before.iter().find(|before| before.name == after.name)?, after)))
}

/// The quotient; `None` if `divisor` is not positive.
pub(super) fn ratio(dividend: f64, divisor: f64) -> Option<f64> {
    (divisor > 0.0).then(|| dividend / divisor)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}
