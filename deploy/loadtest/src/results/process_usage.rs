//! Processor time and memory of processes, from /proc on Linux. Elsewhere the lists are empty.

use std::collections::{HashMap, HashSet};
use std::fs;

use rig::{Process, resident_kib};

/// Name of this process in the figures.
pub(crate) const OWN_NAME: &str = "loadtest";

/// Processor time and memory of one process and its descendants, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProcessUsage {
    pub(crate) name: String,
    /// Processor time since the start of the process, in seconds.
    pub(crate) cpu_s: f64,
    pub(crate) resident_kib: u64,
}

/// The usage of `processes` so far, and last that of this process. A process that has ended is left out.
pub(crate) fn process_usage(processes: &[Process]) -> Vec<ProcessUsage> {
    let all = all_stats();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, stat) in &all {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let own = std::process::id();
    let groups = processes.iter().map(|process| (process.name.as_str(), with_descendants(process.pid, &children)));
    let groups = groups.chain([(OWN_NAME, HashSet::from([own]))]);
    groups
        .filter_map(|(name, pids)| {
            let stats: Vec<&Stat> = pids.iter().filter_map(|pid| all.get(pid)).collect();
            let resident = pids.iter().map(|pid| memory_kib(*pid)).sum();
            // Children of this process are servers that the rig started: each is listed by itself.
            let is_own = name == OWN_NAME;
            let ticks: u64 = stats.iter().map(|stat| stat.ticks + if is_own { 0 } else { stat.reaped_ticks }).sum();
            (!stats.is_empty()).then(|| ProcessUsage {
                name: name.to_owned(),
                cpu_s: seconds(ticks),
                resident_kib: resident,
            })
        })
        .collect()
}

/// Resident memory of a process, to which each page shared with other processes adds its share (Pss); the full resident
/// memory if the system does not allow reading that.
fn memory_kib(pid: u32) -> u64 {
    let shares = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let share = shares.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse().ok());
    share.unwrap_or_else(|| resident_kib(pid).map_or(0, |kib| kib as u64))
}

/// `pid` and all its descendants.
fn with_descendants(pid: u32, children: &HashMap<u32, Vec<u32>>) -> HashSet<u32> {
    let mut found = HashSet::from([pid]);
    let mut unvisited = vec![pid];
    while let Some(parent) = unvisited.pop() {
        let new = children.get(&parent).into_iter().flatten().filter(|child| found.insert(**child));
        unvisited.extend(new);
    }
    found
}

/// The line of `/proc/<pid>/stat`.
struct Stat {
    parent: u32,
    ticks: u64,
    /// Ticks of children that have ended and were waited for.
    reaped_ticks: u64,
}

fn all_stats() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat(&line)?))
        })
        .collect()
}

/// Parses the line by proc_pid_stat(5). After the name, which may hold any character, come state, ppid and so on; utime
/// is the 14th field of all.
fn stat(line: &str) -> Option<Stat> {
    let (_, fields) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(4)?).ok()?,
        ticks: number(14)? + number(15)?,
        reaped_ticks: number(16)? + number(17)?,
    })
}

#[expect(clippy::cast_precision_loss, reason = "ticks of processes are far below 2^52")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_may_hold_any_character() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 110 20 3 4 20 0 1 0 5 6 7";
        let stat = stat(line).unwrap();
        assert_eq!((stat.parent, stat.ticks, stat.reaped_ticks), (3, 130, 7));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_listed_last() {
        let usage = process_usage(&[Process {
            name: "gone".to_owned(),
            pid: u32::MAX,
        }]);
        assert_eq!(usage.len(), 1);
        assert!(usage[0].name == OWN_NAME && usage[0].resident_kib > 0);
    }

    #[test]
    fn all_descendants_are_found() {
        let children = HashMap::from([(1, vec![2, 3]), (3, vec![4]), (9, vec![10])]);
        assert_eq!(with_descendants(1, &children), HashSet::from([1, 2, 3, 4]));
    }
}
