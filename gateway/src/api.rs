//! How the product is spelled in HTTP. Handlers translate; they decide nothing.

pub mod access;
mod admission;
pub mod document;
pub mod edge;
pub mod error;
pub mod messages;
pub mod models;
pub mod optional;
pub mod rooms;
pub mod service;
pub mod sessions;
mod slashes;
pub mod stream;
mod text;
pub mod users;

use std::sync::Arc;

use poem::EndpointExt as _;
use poem::endpoint::BoxEndpoint;
use poem::http::{Method, header};
use poem::middleware::Cors;
use poem_openapi::{OpenApiService, Tags};

use self::edge::Edge;
use self::slashes::Slashes;
use crate::app::App;
use crate::docs::Docs;

/// Largest request body, in bytes. It is read before the handler runs, so this bounds what a request can hold.
pub const MAX_BODY_BYTES: usize = 16 * 1024;

/// Groups of operations, in the order in which a tester needs them.
#[derive(Tags)]
pub enum Tag {
    /// Make yourself known. The token in the answer is used for everything below.
    #[oai(rename = "1 Sign up")]
    SignUp,
    /// Come back later.
    #[oai(rename = "2 Sign in")]
    SignIn,
    /// Places to talk in. Reading or posting in a public room joins it.
    #[oai(rename = "3 Rooms")]
    Rooms,
    /// Say something, and read what was said.
    #[oai(rename = "4 Messages")]
    Messages,
    /// Follow a room live.
    #[oai(rename = "5 Stream")]
    Stream,
    /// Undo it all.
    #[oai(rename = "6 Leave")]
    Leave,
    /// About this service.
    #[oai(rename = "7 Service")]
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

/// The OpenAPI document, as served and as kept in the repository.
#[must_use]
pub fn document() -> String {
    document::finish(&service().spec())
}

/// Everything this gateway answers.
#[must_use]
pub fn endpoint(app: &Arc<App>) -> BoxEndpoint<'static> {
    let document = document();
    let routes = Docs::in_front_of(service(), &document).data(Arc::clone(app));
    let routes = Slashes::around(routes);
    let origins = &app.config.cors_origins;
    if origins.is_empty() {
        // Without a list poem would let every origin in.
        return Edge::new(routes, &document).boxed();
    }
    let cors = Cors::new()
        .allow_origins(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION.as_str(),
            header::CONTENT_TYPE.as_str(),
            "idempotency-key",
            "last-event-id",
        ])
        .expose_headers([
            "message-id",
            "message-seq",
            "location",
            "link",
            "x-first-seq",
            "x-last-seq",
            "last-event-id",
            "x-request-id",
            "retry-after",
        ]);
    Edge::new(routes.with(cors), &document).boxed()
}
