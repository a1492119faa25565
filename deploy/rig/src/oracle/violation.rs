//! The invariants, and what it is called when one is broken.

use std::fmt;
use std::time::Duration;

/// What must hold. The numbers are those of the design; the sentences say what each one means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: every message answered with 204 is in history.
    Kept,
    /// I2: each message is there once.
    Once,
    /// I3: the seqs of a room's log are 1..N without a hole.
    Dense,
    /// I4: what was acknowledged before another message was sent has the lower seq.
    HappensBefore,
    /// I5: the serial posts of one sender keep their order.
    SenderOrder,
    /// I6: history that a reader has seen never changes.
    Unchanging,
    /// I7: a stream shows exactly what follows its cursor. Only a restored database is a reason for `reset`, and every client
    /// must get one then.
    Contiguous,
    /// I8: nothing is seen live that history lacks.
    ReceivedIsStored,
    /// I9: a message of unknown outcome is there once or not at all, and a refused one is not there.
    Converges,
    /// I10: the accept log keeps what is not stored yet.
    LogKeeps,
    /// I11: cursors and fences only grow.
    OnlyForward,
    /// I12: each fence has one owner, and nobody else commits.
    OneOwner,
    /// I13: memory is bounded.
    MemoryBounded,
    /// I14: history and dead letters are what was accepted, and nothing else.
    Balanced,
    /// I15, I19: nobody receives messages of a room after leaving it, or of one that they were never in.
    LeavingTakesEffect,
    /// I15: a stream ends for the reason it names.
    TrueReasons,
    /// What a response says was so: what is done, what exists and what does not.
    TrueResponses,
    /// I16: no text can forge a line of a stream.
    NoForgery,
    /// I17: applying all entries of a room in order, from any cursor, ends in the state that history and SQL have.
    Applied,
    /// I17: an entry of a log is the same for everybody, whenever it is shown, and follows from those before it.
    OneLog,
    /// I9, I17: each acknowledged edit, deletion and reaction is one entry of the log, the last one of each thing holds, and
    /// nothing was changed that nobody asked for.
    ChangesHold,
    /// I18: streams of all rooms of a user, and calls to catch up, show in each room exactly what follows what the device had, within
    /// the user's membership, once and in order, and in the end everything.
    UserStreams,
    /// I20: no stream that is asked for after a deletion was acknowledged shows the text, if the gateways could tell each other.
    DeletedIsGone,
    /// I21: each change of a membership is one entry of the log, in order, and the log says who is in the room.
    Members,
    /// What the fault itself demands, such as a time.
    Demand,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// What happened, as a sentence.
    pub sentence: String,
}

impl Violation {
    /// A violation of `invariant` that is explained by `sentence`.
    pub fn new(invariant: Invariant, sentence: impl Into<String>) -> Self {
        Self {
            invariant,
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.sentence)
    }
}

/// What "bounded" and "at once" mean in a run.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest time between leaving a room and the end of its stream.
    pub removal: Duration,
    /// Largest resident memory of a service, and largest used memory of Redis, in KiB.
    pub memory_kib: u64,
    /// Longest try of a post until a response or an error.
    pub post: Duration,
}
