//! Maps the errors of services to what clients read and what the log says.

use shared::domain::{Invalid, Refusal, Username};
use shared::storage::{CreateRoomError, CreateUserError, StoreError};
use shared::telemetry::LogEvent;
use tracing::error;

use super::ApiError;
use crate::accept::AcceptError;
use crate::accounts::{NotListed, NotLoggedIn, NotRecognized, NotRegistered};
use crate::auth::passwords::HashError;
use crate::auth::sessions::NotAuthenticated;
use crate::auth::tokens::Refused;
use crate::event_dispatch::ChangeError;
use crate::history::{ReadError, ReadRefused};
use crate::live::{OpenError, QuotaError};
use crate::messages::{NotEdited, NotPosted, NotRead};
use crate::rate_limits::RateLimited;
use crate::revocation_watcher::RevocationCheckError;
use crate::rooms::{NotCreated, RoomError};
use crate::search::NotSearched;
use crate::server::{self, OverBudget};
use crate::streams::NotOpened;
use crate::user_rooms::{NoDirectRoom, NotShown};

static DATABASE_FAILS: LogEvent = LogEvent::outage("database_fails", "the database fails");
static COUNTING_FAILS: LogEvent = LogEvent::outage("counting_fails", "limits cannot be counted");
static ACCEPTING_FAILS: LogEvent = LogEvent::outage("accepting_fails", "messages are not accepted");
static OUTCOME_UNKNOWN: LogEvent =
    LogEvent::outage("outcome_unknown", "it is not known whether messages were accepted");
static OPENING_FAILS: LogEvent = LogEvent::outage("opening_fails", "streams cannot be opened");

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::InvalidFields(vec![invalid])
    }
}

impl From<NotRegistered> for ApiError {
    fn from(cause: NotRegistered) -> Self {
        match cause {
            NotRegistered::Invalid(invalid) => Self::InvalidFields(invalid),
            NotRegistered::RateLimited(cause) => cause.into(),
            NotRegistered::Hash(cause) => cause.into(),
            NotRegistered::Create(cause) => cause.into(),
            NotRegistered::Store(cause) => cause.into(),
        }
    }
}

impl From<NotLoggedIn> for ApiError {
    fn from(cause: NotLoggedIn) -> Self {
        match cause {
            NotLoggedIn::WrongCredentials => Self::InvalidCredentials,
            NotLoggedIn::RateLimited(cause) => cause.into(),
            NotLoggedIn::Hash(cause) => cause.into(),
            NotLoggedIn::Store(cause) => cause.into(),
        }
    }
}

impl From<NotRecognized> for ApiError {
    fn from(cause: NotRecognized) -> Self {
        match cause {
            NotRecognized::Stale(cause) => cause.into(),
            NotRecognized::Refused(cause) => cause.into(),
        }
    }
}

impl From<NotListed> for ApiError {
    fn from(_: NotListed) -> Self {
        Self::Forbidden
    }
}

impl From<RoomError> for ApiError {
    fn from(cause: RoomError) -> Self {
        match cause {
            RoomError::NotFound(name) => Self::RoomNotFound(name),
            RoomError::Replaced(name) => Self::RoomReplaced(name),
            RoomError::Forbidden => Self::Forbidden,
            RoomError::RateLimited(cause) => cause.into(),
            RoomError::Stale(cause) => cause.into(),
            RoomError::Store(cause) => cause.into(),
            RoomError::Change(cause) => cause.into(),
        }
    }
}

impl From<NotCreated> for ApiError {
    fn from(cause: NotCreated) -> Self {
        match cause {
            NotCreated::RateLimited(cause) => cause.into(),
            NotCreated::Create(cause) => cause.into(),
            NotCreated::Change(cause) => cause.into(),
        }
    }
}

impl From<NotPosted> for ApiError {
    fn from(cause: NotPosted) -> Self {
        match cause {
            NotPosted::Room(cause) => cause.into(),
            NotPosted::RateLimited(cause) => cause.into(),
            NotPosted::Accept(cause) => cause.into(),
            NotPosted::NoSuchUser(name) => Self::NoSuchMention(name.chars().take(Username::MAX_LEN).collect()),
            NotPosted::Store(cause) => cause.into(),
            NotPosted::Change(cause) => cause.into(),
            NotPosted::Late => Self::OutcomeUnknown,
        }
    }
}

impl From<NotEdited> for ApiError {
    fn from(cause: NotEdited) -> Self {
        match cause {
            NotEdited::Post(cause) => cause.into(),
            NotEdited::Read(cause) => cause.into(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchMessage => Self::MessageNotFound,
            Refusal::NoSuchReply => Self::NoSuchReply,
            Refusal::Forbidden => Self::Forbidden,
            Refusal::Deleted => Self::MessageDeleted,
            Refusal::EditWindowClosed => Self::EditWindowClosed,
            Refusal::TooManyReactions => Self::TooManyReactions,
        }
    }
}

impl From<NotRead> for ApiError {
    fn from(cause: NotRead) -> Self {
        match cause {
            NotRead::Room(cause) => cause.into(),
            NotRead::Read(cause) => cause.into(),
            NotRead::NoMessage => Self::MessageNotFound,
        }
    }
}

impl From<NotSearched> for ApiError {
    fn from(cause: NotSearched) -> Self {
        match cause {
            NotSearched::Room(cause) => cause.into(),
            NotSearched::NoSuchUser(name) => Self::UserNotFound(name),
            NotSearched::Read(cause) => cause.into(),
            NotSearched::Store(cause) => cause.into(),
        }
    }
}

impl From<NotShown> for ApiError {
    fn from(cause: NotShown) -> Self {
        match cause {
            NotShown::Read(cause) => cause.into(),
            NotShown::Store(cause) => cause.into(),
        }
    }
}

impl From<NoDirectRoom> for ApiError {
    fn from(cause: NoDirectRoom) -> Self {
        match cause {
            NoDirectRoom::NoSuchUser(name) => Self::UserNotFound(name.chars().take(Username::MAX_LEN).collect()),
            NoDirectRoom::Oneself => Self::DirectWithOneself,
            NoDirectRoom::RateLimited(cause) => cause.into(),
            NoDirectRoom::Store(cause) => cause.into(),
        }
    }
}

impl From<NotOpened> for ApiError {
    fn from(cause: NotOpened) -> Self {
        match cause {
            NotOpened::Room(cause) => cause.into(),
            NotOpened::Session(cause) => cause.into(),
            NotOpened::Quota(cause) => cause.into(),
            NotOpened::Feed(cause) => cause.into(),
            NotOpened::Store(cause) => cause.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(cause: StoreError) -> Self {
        DATABASE_FAILS.report("", &cause);
        Self::Unavailable
    }
}

/// The revocation watcher writes it to the log, once.
impl From<RevocationCheckError> for ApiError {
    fn from(_: RevocationCheckError) -> Self {
        Self::Unavailable
    }
}

impl From<ReadError> for ApiError {
    fn from(cause: ReadError) -> Self {
        match cause {
            ReadError::Refused(ReadRefused::ReaderLimit) => return Self::TooManyReads,
            ReadError::Refused(ReadRefused::Overload) => return Self::Busy,
            ReadError::TooSlow => return Self::SearchTooSlow,
            ReadError::Store(_) | ReadError::Panicked => DATABASE_FAILS.report("", &cause),
        }
        match cause {
            ReadError::Store(_) => Self::Unavailable,
            ReadError::Panicked | ReadError::Refused(_) | ReadError::TooSlow => Self::Internal,
        }
    }
}

impl From<CreateUserError> for ApiError {
    fn from(cause: CreateUserError) -> Self {
        match cause {
            CreateUserError::EmailTaken => Self::EmailTaken,
            CreateUserError::UsernameTaken => Self::UsernameTaken,
            CreateUserError::PublicIdTaken => Self::PublicIdTaken,
            CreateUserError::Store(cause) => cause.into(),
        }
    }
}

impl From<CreateRoomError> for ApiError {
    fn from(cause: CreateRoomError) -> Self {
        match cause {
            CreateRoomError::Exists => Self::RoomExists,
            CreateRoomError::Reserved => Self::RoomNameReserved,
            CreateRoomError::TooMany => Self::TooManyRooms,
            CreateRoomError::Store(cause) => cause.into(),
        }
    }
}

impl From<NotAuthenticated> for ApiError {
    fn from(cause: NotAuthenticated) -> Self {
        match cause {
            NotAuthenticated::Token(Refused::Invalid) => Self::Unauthorized,
            NotAuthenticated::Token(Refused::Expired) => Self::TokenExpired,
            NotAuthenticated::Revoked => Self::SessionRevoked,
            NotAuthenticated::Store(cause) => cause.into(),
        }
    }
}

impl From<HashError> for ApiError {
    fn from(cause: HashError) -> Self {
        match cause {
            HashError::Busy => Self::Busy,
            HashError::Failed => {
                error!("hashing a password failed");
                Self::Internal
            }
        }
    }
}

impl From<OverBudget> for ApiError {
    fn from(over: OverBudget) -> Self {
        server::Refusal::from(over).into()
    }
}

impl From<RateLimited> for ApiError {
    fn from(cause: RateLimited) -> Self {
        match cause {
            RateLimited::TooOften { retry_after } => Self::RateLimited(retry_after),
            RateLimited::Redis(cause) => {
                COUNTING_FAILS.report("", &cause);
                Self::Unavailable
            }
        }
    }
}

impl From<AcceptError> for ApiError {
    fn from(cause: AcceptError) -> Self {
        match cause {
            AcceptError::Busy | AcceptError::Backlog => Self::Busy,
            AcceptError::KeyReused => Self::IdempotencyKeyReused,
            AcceptError::RoomDeleted => Self::RoomDeleted,
            AcceptError::Rejected(refusal) => refusal.into(),
            AcceptError::Refused(cause) => {
                ACCEPTING_FAILS.report("", &cause);
                Self::Unavailable
            }
            AcceptError::Unknown(cause) => {
                OUTCOME_UNKNOWN.report("", &cause);
                Self::OutcomeUnknown
            }
            AcceptError::Store(cause) => {
                DATABASE_FAILS.report("", &cause);
                Self::Unavailable
            }
        }
    }
}

impl From<ChangeError> for ApiError {
    fn from(cause: ChangeError) -> Self {
        match cause {
            ChangeError::Store(cause) => cause.into(),
            ChangeError::Panicked => Self::Internal,
        }
    }
}

impl From<OpenError> for ApiError {
    fn from(cause: OpenError) -> Self {
        match cause {
            OpenError::Late | OpenError::Stopping => {
                OPENING_FAILS.report("", &cause);
                Self::Unavailable
            }
            OpenError::Store(cause) => {
                DATABASE_FAILS.report("", &*cause);
                Self::Unavailable
            }
        }
    }
}

impl From<QuotaError> for ApiError {
    fn from(cause: QuotaError) -> Self {
        match cause {
            QuotaError::TooMany => Self::TooManyStreams,
        }
    }
}
