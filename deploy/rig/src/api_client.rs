//! A client of the HTTP API, with one method for each call.
//!
//! Methods such as [`ApiClient::register`] fail unless the call succeeds. A test that is about the response itself uses
//! [`ApiClient::get`], [`ApiClient::send_json`] and the like, which return any response.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::failure::{Explain, Failure, Result};
use crate::http_response::HttpResponse;
use crate::stream_request::StreamRequest;

/// Longest a single call may take before the rig gives up; the product promises to answer within 10 s.
const CALL_WITHIN: Duration = Duration::from_secs(20);
/// Largest page of the history.
const PAGE: usize = 100;

/// One user, or a client that is not signed in, at one gateway.
#[derive(Clone)]
pub struct ApiClient {
    http: Client,
    base: String,
    token: Option<String>,
}

impl ApiClient {
    /// A client that is not signed in, at the gateway with this address.
    pub fn at(base: &str) -> Result<Self> {
        Self::build(base, Client::builder())
    }

    /// The same, connecting from one `address` of this machine.
    pub fn at_from(base: &str, address: Option<IpAddr>) -> Result<Self> {
        Self::build(base, Client::builder().local_address(address))
    }

    /// The same, with HTTP/2 on one connection.
    pub fn over_http2(base: &str) -> Result<Self> {
        Self::build(base, Client::builder().http2_prior_knowledge())
    }

    fn build(base: &str, http: ClientBuilder) -> Result<Self> {
        Ok(Self {
            // Neither a proxy of the machine nor redirects: the contract has none.
            http: http.no_proxy().redirect(Policy::none()).build()?,
            base: base.to_owned(),
            token: None,
        })
    }

    /// The same user at another gateway.
    pub fn moved_to(&self, base: &str) -> Result<Self> {
        Ok(Self {
            token: self.token.clone(),
            ..Self::at(base)?
        })
    }

    /// The user of `token`, at the same gateway.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// The token of the user; empty if the client is not signed in.
    #[must_use]
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// A request with the raw token in `Authorization`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.header("authorization", token),
            None => request,
        }
    }

    /// Sends a request and receives the whole response.
    pub async fn send(&self, request: RequestBuilder) -> Result<HttpResponse> {
        HttpResponse::receive(request.timeout(CALL_WITHIN).send().await?).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<HttpResponse> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Any method without a body.
    pub async fn call(&self, method: Method, path: &str) -> Result<HttpResponse> {
        self.send(self.request(method, path)).await
    }

    /// POST with a JSON body.
    pub async fn send_json(&self, path: &str, body: &Value) -> Result<HttpResponse> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Registers a user whose e-mail, name and public id are all `name`, and signs in.
    pub async fn register(&self, name: &str) -> Result<Self> {
        let body = json!({"email": name, "username": name, "password": password_of(name), "public_id": name});
        let response = self.send_json("/user/", &body).await?.expect(201)?;
        self.signed_in_by(&response)
    }

    /// Signs in such a user again: a new session.
    pub async fn login(&self, name: &str) -> Result<Self> {
        let response = self
            .send_json("/auth/login", &json!({"email": name, "password": password_of(name)}))
            .await?
            .expect(200)?;
        self.signed_in_by(&response)
    }

    /// Ends the session.
    pub async fn logout(&self) -> Result<()> {
        self.call(Method::POST, "/auth/logout").await?.expect(200)?;
        Ok(())
    }

    /// Creates a room.
    pub async fn create_room(&self, room: &str) -> Result<()> {
        self.call(Method::POST, &format!("/chat/{room}")).await?.expect(201)?;
        Ok(())
    }

    /// Posts a message and returns its id.
    pub async fn post(&self, room: &str, text: &str) -> Result<String> {
        let response = self.try_post(room, text, None).await?.expect(204)?;
        message_id(&response)
    }

    /// Posts a message, with an `Idempotency-Key` if given, and returns any response.
    pub async fn try_post(&self, room: &str, text: &str, key: Option<&str>) -> Result<HttpResponse> {
        let mut request = self.request(Method::POST, &format!("/chat/{room}/message")).json(&json!({"message": text}));
        if let Some(key) = key {
            request = request.header("idempotency-key", key.as_bytes());
        }
        self.send(request).await
    }

    /// One page of the history, newest first; `query` such as `?limit=5`, or empty.
    pub async fn history(&self, room: &str, query: &str) -> Result<Vec<Value>> {
        let response = self.get(&format!("/chat/{room}/messagehistory{query}")).await?.expect(200)?;
        match response.json()? {
            Value::Array(messages) => Ok(messages),
            other => Err(Failure::new(format!("a history that is not an array: {other}"))),
        }
    }

    /// The whole history, oldest first, page by page. A page may be shorter than was asked for, so an empty one is the end.
    pub async fn whole_history(&self, room: &str) -> Result<Vec<Value>> {
        let mut messages: Vec<Value> = Vec::new();
        loop {
            let query = match messages.last() {
                Some(oldest) => format!("?limit={PAGE}&before={}", oldest["seq"]),
                None => format!("?limit={PAGE}"),
            };
            let page = self.history(room, &query).await?;
            if page.is_empty() {
                messages.reverse();
                return Ok(messages);
            }
            messages.extend(page);
        }
    }

    /// Begins a request for the room's live stream.
    #[must_use]
    pub fn stream(&self, room: &str) -> StreamRequest {
        StreamRequest::new(self.request(Method::GET, &format!("/chat/{room}/message")))
    }

    /// Begins a request for the live stream of all rooms of the user.
    #[must_use]
    pub fn user_events(&self) -> StreamRequest {
        StreamRequest::new(self.request(Method::GET, "/user/events"))
    }

    fn signed_in_by(&self, response: &HttpResponse) -> Result<Self> {
        let body = response.json()?;
        let token = body["Authorization"].as_str();
        let token = token.ok_or_else(|| Failure::new(format!("no token in {response}")))?;
        Ok(self.with_token(token))
    }
}

/// The password of a user of the rig.
fn password_of(name: &str) -> String {
    format!("secret of {name}")
}

/// The `Message-Id` of a response to a post.
fn message_id(response: &HttpResponse) -> Result<String> {
    let id = response.header("message-id").map(str::to_owned);
    id.ok_or_else(|| Failure::new("no header")).explain(|| format!("no Message-Id in {response}"))
}
