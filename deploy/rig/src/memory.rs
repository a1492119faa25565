//! The resident memory of a process, as Linux shows it.

use crate::failure::{Explain, Result};

/// Resident memory of the process `pid` in KiB.
pub fn resident_kib(pid: u32) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse().explain(|| format!("no VmRSS of {pid}"))
}
