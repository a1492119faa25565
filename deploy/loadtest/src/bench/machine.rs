//! The machine that figures were measured on; figures say little without it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::{env, fs, thread};

use serde::{Deserialize, Serialize};

/// A machine, as far as it matters for figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Machine {
    /// Cores that servers and tools share.
    pub cores: usize,
    /// Model of the processor; empty if the system does not say.
    pub processor: String,
    /// File system that the servers write to, such as `ext4`; on `tmpfs` no disk is involved. Empty if the system does
    /// not say.
    pub file_system: String,
    /// Release of the Linux kernel, such as `6.8.0`; empty if the system, or a report of an older version, does not
    /// say.
    #[serde(default)]
    pub kernel: String,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let directory = env::temp_dir();
        Self {
            cores: thread::available_parallelism().map_or(0, Into::into),
            processor: processor(&read("/proc/cpuinfo")),
            kernel: read("/proc/sys/kernel/osrelease").trim_end().to_owned(),
            file_system: file_system(&read("/proc/self/mounts"), &directory.canonicalize().unwrap_or(directory)),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |text: &str, prefix: &str, unknown: &str| match text {
            "" => unknown.to_owned(),
            text => format!("{prefix}{text}"),
        };
        write!(
            formatter,
            "{} cores ({}, {}) that servers and tools shared, files on {}",
            self.cores,
            known(&self.processor, "", "unknown processor"),
            known(&self.kernel, "Linux ", "unknown kernel"),
            known(&self.file_system, "", "an unknown file system"),
        )
    }
}

fn processor(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map(|(_, model)| model.to_owned()).unwrap_or_default()
}

/// File system that is mounted at `directory` or at the nearest directory above it. The fields of proc_mounts(5) are
/// device, mount point, file system, and so on.
fn file_system(mounts: &str, directory: &Path) -> String {
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?))
    });
    let above = mounted.filter(|(mount_point, _)| directory.starts_with(mount_point));
    above
        .max_by_key(|(mount_point, _)| mount_point.components().count())
        .map(|(_, kind)| kind.to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_point_counts() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\nproc /proc proc rw 0 0\n";
        for (directory, kind) in [("/dev/shm/tmp", "tmpfs"), ("/dev/shmem", "ext4"), ("/", "ext4")] {
            assert_eq!(file_system(mounts, Path::new(directory)), kind);
        }
        assert_eq!(file_system("", Path::new("/tmp")), "");
    }

    #[test]
    fn the_model_of_the_processor_is_found() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: other\n"), "AMD EPYC");
        assert_eq!(processor("BogoMIPS: 48.00\n"), "");
    }
}
