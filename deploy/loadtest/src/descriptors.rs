//! Open files: one for each stream, here and in the servers, which inherit the limit.

use rig::{Explain as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open beside the streams.
const OTHERS: u64 = 512;

/// Lets this process, and all it starts from now on, hold so many streams.
pub fn raise_descriptors(streams: usize) -> Result<()> {
    let wanted = streams as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let hard = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = Rlimit {
        current: Some(wanted),
        maximum: hard,
    };
    setrlimit(Resource::Nofile, raised)
        .explain(|| format!("{streams} streams need {wanted} open files: raise the limit ('ulimit -n {wanted}')"))
}
