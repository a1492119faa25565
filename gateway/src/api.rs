//! How the product is spelled in HTTP. Handlers translate; they decide nothing.

pub mod access;
mod admission;
pub mod allowed_methods;
pub mod body;
pub mod cors;
pub mod document;
pub mod edge;
pub mod error;
mod forwarded;
pub mod messages;
pub mod models;
pub mod params;
pub mod refusal_responses;
pub mod rooms;
pub mod service;
pub mod sessions;
pub mod stream;
mod text;
mod trailing_slashes;
pub mod users;

use std::sync::Arc;

use poem::EndpointExt as _;
use poem::endpoint::BoxEndpoint;
use poem_openapi::{OpenApiService, Tags};
use shared::domain::MessageText;

use self::cors::Cors;
use self::edge::Edge;
pub use self::forwarded::ForwardedHeader;
use self::refusal_responses::RefusalResponses;
use self::trailing_slashes::TrailingSlashes;
use crate::app::App;
use crate::config::PASSWORD_MIN_LENGTH;
use crate::docs::Docs;
use crate::server::RefusalRenderer;

/// Bytes of a body beside the longest text: names of fields, further fields, white space.
const BODY_BESIDE_TEXT_BYTES: usize = 8 * 1024;

/// Largest request body, in bytes: 64 KiB. It is read before the handler runs, so this bounds what a request can hold. The
/// longest text that may be posted fits in its longest spelling, since some writers of JSON escape all but ASCII.
pub const MAX_BODY_BYTES: usize =
    (MessageText::MAX_LEN * MessageText::MAX_JSON_BYTES_A_CHARACTER + BODY_BESIDE_TEXT_BYTES).next_power_of_two();

/// Groups of operations, in the order in which a tester needs them.
#[derive(Tags)]
pub enum Tag {
    /// Make yourself known. The token in the answer is used for everything below.
    #[oai(rename = "Sign up")]
    SignUp,
    /// Come back later.
    #[oai(rename = "Sign in")]
    SignIn,
    /// Places to talk in. Reading or posting in a public room joins it.
    #[oai(rename = "Rooms")]
    Rooms,
    /// Say something, and read what was said.
    #[oai(rename = "Messages")]
    Messages,
    /// Follow a room live.
    #[oai(rename = "Stream")]
    Stream,
    /// Undo it all.
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
    messages::MessagesApi,
    stream::StreamApi,
    service::ServiceApi,
);

const APIS: Apis = (
    users::UsersApi,
    sessions::SessionsApi,
    rooms::RoomsApi,
    messages::MessagesApi,
    stream::StreamApi,
    service::ServiceApi,
);

fn service() -> OpenApiService<Apis, ()> {
    OpenApiService::new(APIS, "Roomcast", env!("CARGO_PKG_VERSION"))
}

/// The OpenAPI document of a gateway with default settings, as kept in the repository.
#[must_use]
pub fn document() -> String {
    document_with(PASSWORD_MIN_LENGTH)
}

/// The OpenAPI document of a gateway that takes passwords from this length on, as served.
fn document_with(password_min: u16) -> String {
    document::finish(&service().spec(), password_min)
}

/// What this gateway answers to those who do not get as far as a request.
#[must_use]
pub(crate) fn refusals(app: &Arc<App>) -> Arc<dyn RefusalRenderer> {
    Arc::new(RefusalResponses::new(Cors::new(&app.config.cors_origins)))
}

/// Everything this gateway answers.
#[must_use]
pub fn endpoint(app: &Arc<App>) -> BoxEndpoint<'static> {
    let document = document_with(app.config.accounts.password_min_length);
    let routes = Docs::in_front_of(service(), &document).data(Arc::clone(app));
    Edge::new(TrailingSlashes::around(routes), &document, Cors::new(&app.config.cors_origins)).boxed()
}
