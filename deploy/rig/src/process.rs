//! Names a running server process whose processor time and memory are measured.

/// A process, with all its descendants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The name that figures give it.
    pub name: String,
    /// Its id.
    pub pid: u32,
}
