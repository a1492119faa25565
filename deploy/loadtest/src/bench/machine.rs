//! What it was measured on: figures say little without it.

use std::path::{Path, PathBuf};
use std::{env, fs, thread};

use serde::{Deserialize, Serialize};

/// A machine, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Cores that servers and tools share.
    pub cores: usize,
    /// The model of the processor; empty where the system does not tell.
    pub processor: String,
    /// The kind of file system that the servers write to, such as `ext4`; of `tmpfs` the disk is left out. Empty where the
    /// system does not tell.
    pub file_system: String,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let directory = env::temp_dir();
        Self {
            cores: thread::available_parallelism().map_or(0, Into::into),
            processor: processor(&read("/proc/cpuinfo")),
            file_system: file_system(&read("/proc/self/mounts"), &directory.canonicalize().unwrap_or(directory)),
        }
    }
}

fn processor(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map(|(_, model)| model.to_owned()).unwrap_or_default()
}

/// What is mounted at `directory` or next above it; proc_mounts(5): device, place, kind, and so on.
fn file_system(mounts: &str, directory: &Path) -> String {
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?))
    });
    let above = mounted.filter(|(place, _)| directory.starts_with(place));
    above
        .max_by_key(|(place, _)| place.components().count())
        .map(|(_, kind)| kind.to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\nproc /proc proc rw 0 0\n";
        for (directory, kind) in [("/dev/shm/tmp", "tmpfs"), ("/dev/shmem", "ext4"), ("/", "ext4")] {
            assert_eq!(file_system(mounts, Path::new(directory)), kind);
        }
        assert_eq!(file_system("", Path::new("/tmp")), "");
    }

    #[test]
    fn the_model_of_the_processor_is_told() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: other\n"), "AMD EPYC");
        assert_eq!(processor("BogoMIPS: 48.00\n"), "");
    }
}
