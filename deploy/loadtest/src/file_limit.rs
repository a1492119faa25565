//! Raises the limit of open files: each stream is one file here and one in a server, which inherits the limit.

use rig::{Explain as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files besides the streams.
const OTHER_FILES: u64 = 512;

/// Lets this process and all that it starts from here on hold so many streams.
pub fn raise_file_limit(streams: usize) -> Result<()> {
    let wanted = streams as u64 + OTHER_FILES;
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
