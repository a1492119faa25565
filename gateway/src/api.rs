//! The HTTP API. A handler extracts, calls one service and converts; it decides nothing.

pub mod access;
mod admission;
pub mod body;
pub mod cors;
pub mod direct_rooms;
pub mod document;
pub mod documented_paths;
pub mod edge;
pub mod error;
pub mod event_stream;
mod forwarded;
pub mod info_and_health;
pub mod message_changes;
pub mod messages;
pub mod models;
mod pages;
pub mod params;
pub mod refusal_responses;
pub mod rooms;
pub mod search;
pub mod sessions;
pub mod stream;
pub mod sync;
mod text;
mod trailing_slashes;
pub mod typing;
pub mod user_rooms;
pub mod user_stream;
pub mod users;

use std::sync::Arc;

use poem::EndpointExt as _;
use poem::endpoint::BoxEndpoint;
use poem_openapi::{OpenApiService, Tags};
use shared::domain::MessageText;

use self::cors::Cors;
use self::edge::Edge;
use self::forwarded::TrustedProxies;
use self::refusal_responses::RefusalResponses;
use self::trailing_slashes::TrailingSlashes;
use crate::accounts::Accounts;
use crate::config::{Config, PASSWORD_MIN_LENGTH};
use crate::health::Health;
use crate::messages::Messages;
use crate::rooms::Rooms;
use crate::search::Searches;
use crate::server::RefusalRenderer;
use crate::services::Services;
use crate::streams::Streams;
use crate::swagger_ui::Docs;
use crate::sync::Syncs;
use crate::typing::TypingNotices;
use crate::user_rooms::UserRooms;

/// Bytes of a body beside the longest text: names of fields, further fields, white space.
const BODY_BESIDE_TEXT_BYTES: usize = 8 * 1024;

/// Largest request body, in bytes: 64 KiB. It is read before the handler runs, so this bounds what a request can hold. The
/// longest text that may be posted fits in its longest spelling, since some writers of JSON escape all but ASCII.
pub const MAX_BODY_BYTES: usize =
    (MessageText::MAX_LEN * MessageText::MAX_JSON_BYTES_A_CHARACTER + BODY_BESIDE_TEXT_BYTES).next_power_of_two();

/// Groups of operations, in the order in which a tester needs them.
#[derive(Tags)]
pub enum Tag {
    /// Create an account. The token in the answer is used for everything below.
    #[oai(rename = "Sign up")]
    SignUp,
    /// Get another token later.
    #[oai(rename = "Sign in")]
    SignIn,
    /// Create and find rooms. Reading or posting in a public room joins it.
    #[oai(rename = "Rooms")]
    Rooms,
    /// Post messages, change them and read history. On the page for trying out, the id in the examples stands for the message that
    /// you posted last.
    #[oai(rename = "Messages")]
    Messages,
    /// Follow a room live.
    #[oai(rename = "Stream")]
    Stream,
    /// Delete, leave and log out.
    #[oai(rename = "Leave")]
    Leave,
    /// About this service.
    #[oai(rename = "Service")]
    Service,
}

type Apis = (
    users::UsersApi,
    sessions::SessionsApi,
    rooms::RoomsApi,
    user_rooms::UserRoomsApi,
    direct_rooms::DirectRoomsApi,
    messages::MessagesApi,
    message_changes::MessageChangesApi,
    search::SearchApi,
    stream::StreamApi,
    user_stream::UserStreamApi,
    sync::SyncApi,
    typing::TypingApi,
    info_and_health::ServiceApi,
);

const APIS: Apis = (
    users::UsersApi,
    sessions::SessionsApi,
    rooms::RoomsApi,
    user_rooms::UserRoomsApi,
    direct_rooms::DirectRoomsApi,
    messages::MessagesApi,
    message_changes::MessageChangesApi,
    search::SearchApi,
    stream::StreamApi,
    user_stream::UserStreamApi,
    sync::SyncApi,
    typing::TypingApi,
    info_and_health::ServiceApi,
);

fn service() -> OpenApiService<Apis, ()> {
    OpenApiService::new(APIS, "Roomcast", env!("CARGO_PKG_VERSION"))
}

/// The OpenAPI document of a gateway with default settings, as kept in the repository.
#[must_use]
pub fn document() -> String {
    document_with(PASSWORD_MIN_LENGTH)
}

/// The OpenAPI document of a gateway that accepts passwords from this length on, as served.
fn document_with(password_min: u16) -> String {
    document::finish(&service().spec(), password_min)
}

/// What handlers find among the data of a request. It is one entry, because each costs every request an insertion.
pub struct ApiContext {
    accounts: Accounts,
    rooms: Rooms,
    user_rooms: UserRooms,
    messages: Messages,
    searches: Searches,
    streams: Streams,
    syncs: Syncs,
    typing: TypingNotices,
    health: Health,
    proxies: TrustedProxies,
    info: models::Info,
}

impl ApiContext {
    fn new(services: Services, config: &Config) -> Self {
        let Services {
            accounts,
            rooms,
            user_rooms,
            messages,
            searches,
            streams,
            syncs,
            typing,
            health,
        } = services;
        Self {
            accounts,
            rooms,
            user_rooms,
            messages,
            searches,
            streams,
            syncs,
            typing,
            health,
            proxies: TrustedProxies::new(config),
            info: info_and_health::info(config),
        }
    }
}

/// The answers to clients whose requests do not reach the endpoint.
#[must_use]
pub(crate) fn refusals(config: &Config) -> Arc<dyn RefusalRenderer> {
    Arc::new(RefusalResponses::new(Cors::new(&config.cors_origins)))
}

/// Everything that this gateway answers.
#[must_use]
pub fn endpoint(services: Services, config: &Config) -> BoxEndpoint<'static> {
    let document = document_with(config.accounts.password_min_length);
    let context = Arc::new(ApiContext::new(services, config));
    let routes = Docs::in_front_of(service(), &document).data(context);
    Edge::new(TrailingSlashes::around(routes), &document, Cors::new(&config.cors_origins)).boxed()
}
