//! Work that takes long enough to hold up the other tasks of a thread.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Bytes of messages up to which it is quicker to parse or write them on this thread than to move other tasks away.
const LARGE: usize = 128 * 1024;

/// Does `work` on so many `bytes` of messages. If they are many, the other tasks of the thread move to another one first: a page
/// of the longest messages takes milliseconds, in which no post on this thread would proceed.
#[expect(
    clippy::disallowed_methods,
    reason = "it is called only on a runtime of several threads, where it does not panic"
)]
pub fn block_in_place_if_large<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if bytes > LARGE && matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        block_in_place(work)
    } else {
        work()
    }
}
