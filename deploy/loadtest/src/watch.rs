//! What server processes take of the machine, as Linux shows it. Elsewhere nothing is told.

use std::collections::{HashMap, HashSet};
use std::fs;

use rig::{Process, resident_kib};

/// What this process itself is called.
pub(crate) const OWN: &str = "loadtest";

/// Time and memory of one process at one moment, those that descend from it included.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Usage {
    pub(crate) name: String,
    /// Processor time since its start, in seconds.
    pub(crate) cpu_s: f64,
    pub(crate) resident_kib: u64,
}

/// What `processes` have taken so far, and this process itself, which comes last. Who is gone is left out.
pub(crate) fn usage(processes: &[Process]) -> Vec<Usage> {
    let all = all();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, stat) in &all {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let own = std::process::id();
    let families = processes.iter().map(|process| (process.name.as_str(), family(process.pid, &children)));
    let families = families.chain([(OWN, HashSet::from([own]))]);
    families
        .filter_map(|(name, pids)| {
            let stats: Vec<&Stat> = pids.iter().filter_map(|pid| all.get(pid)).collect();
            let resident = pids.iter().map(|pid| memory_kib(*pid)).sum();
            // Of this process's children the rig's own services are told by themselves.
            let is_own = name == OWN;
            let ticks: u64 = stats.iter().map(|stat| stat.ticks + if is_own { 0 } else { stat.reaped_ticks }).sum();
            (!stats.is_empty()).then(|| Usage {
                name: name.to_owned(),
                cpu_s: seconds(ticks),
                resident_kib: resident,
            })
        })
        .collect()
}

/// Resident memory of a process, where what it shares with others of its family is shared out among them; all of it, where
/// the system does not tell that to us.
fn memory_kib(pid: u32) -> u64 {
    let shares = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let share = shares.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse().ok());
    share.unwrap_or_else(|| resident_kib(pid).map_or(0, |kib| kib as u64))
}

/// `pid` and all that descend from it.
fn family(pid: u32, children: &HashMap<u32, Vec<u32>>) -> HashSet<u32> {
    let mut family = HashSet::from([pid]);
    let mut unseen = vec![pid];
    while let Some(parent) = unseen.pop() {
        let new = children.get(&parent).into_iter().flatten().filter(|child| family.insert(**child));
        unseen.extend(new);
    }
    family
}

/// The line of `/proc/<pid>/stat`.
struct Stat {
    parent: u32,
    ticks: u64,
    /// Of children that have ended and were waited for.
    reaped_ticks: u64,
}

fn all() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat(&line)?))
        })
        .collect()
}

/// proc_pid_stat(5): behind the name, which may hold anything, come state, ppid and so on; utime is the 14th of all.
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
    fn a_name_may_hold_anything() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 110 20 3 4 20 0 1 0 5 6 7";
        let stat = stat(line).unwrap();
        assert_eq!((stat.parent, stat.ticks, stat.reaped_ticks), (3, 130, 7));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_told_last() {
        let usage = usage(&[Process {
            name: "gone".to_owned(),
            pid: u32::MAX,
        }]);
        assert_eq!(usage.len(), 1);
        assert!(usage[0].name == OWN && usage[0].resident_kib > 0);
    }

    #[test]
    fn a_family_is_whole() {
        let children = HashMap::from([(1, vec![2, 3]), (3, vec![4]), (9, vec![10])]);
        assert_eq!(family(1, &children), HashSet::from([1, 2, 3, 4]));
    }
}
