//! Cross-origin requests (CORS): pages of listed origins may read responses, and responses differ in nothing else.

use std::collections::BTreeMap;

use rig::{ApiClient, HttpResponse, Method, Stack};
use serde_json::{Value, json};

use crate::fixture::with_lobby;

const LISTED: &str = "https://chat.example.org";
const APP_ORIGIN: &str = "capacitor://localhost";
const FOREIGN: &str = "https://evil.example.org";

async fn create_from(client: &ApiClient, origin: &str, room: &str) -> HttpResponse {
    let request = client.request(Method::POST, &format!("/chat/{room}")).header("origin", origin);
    client.send(request).await.unwrap()
}

/// One call, made by a member or by a client that is not signed in.
struct Call {
    is_member: bool,
    method: Method,
    path: String,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Call {
    fn of(method: Method, path: impl Into<String>) -> Self {
        Self {
            is_member: true,
            method,
            path: path.into(),
            content_type: "application/json",
            body: Vec::new(),
        }
    }

    fn name(&self) -> String {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(20)]).into_owned();
        format!("{} {} {:?} member {}", self.method, self.path, body, self.is_member)
    }

    async fn send_as(&self, (member, anyone): (&ApiClient, &ApiClient), origin: Option<&str>) -> HttpResponse {
        let client = if self.is_member { member } else { anyone };
        let mut request = client.request(self.method.clone(), &self.path);
        if !self.body.is_empty() {
            request = request.header("content-type", self.content_type).body(self.body.clone());
        }
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        client.send(request).await.unwrap()
    }
}

/// Every operation in every form that can be repeated: valid (where it only reads), without a token, with garbage in the path,
/// in the body and for a body, by an unknown method, by HEAD and by OPTIONS; and paths without an operation.
fn calls(document: &Value) -> Vec<Call> {
    let mut calls = Vec::new();
    for (template, methods) in document["paths"].as_object().unwrap() {
        let path = template.replace("{room}", "lobby").replace("{public_id}", "ann");
        let is_stream = path.ends_with("/message") || path.ends_with("/events");
        let query = if is_stream { "?wait_s=1" } else { "" };
        for (method, operation) in methods.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            if method == Method::GET {
                calls.push(Call::of(Method::GET, format!("{path}{query}")));
                calls.push(Call::of(Method::HEAD, format!("{path}{query}")));
            }
            if !operation["security"].as_array().unwrap().is_empty() {
                calls.push(Call {
                    is_member: false,
                    ..Call::of(method.clone(), path.clone())
                });
            }
            for garbage in ["%FF", "no-such-thing", "a%20b"] {
                if template.contains('{') && method != Method::POST {
                    let path = template.replace("{room}", garbage).replace("{public_id}", garbage);
                    calls.push(Call::of(method.clone(), path));
                }
            }
            if operation.get("requestBody").is_some() {
                for (content_type, body) in [
                    ("application/json", b"{".to_vec()),
                    ("application/json", b"null".to_vec()),
                    ("application/json", vec![b' '; 200_000]),
                    ("text/plain", b"{}".to_vec()),
                ] {
                    calls.push(Call {
                        content_type,
                        body,
                        ..Call::of(method.clone(), path.clone())
                    });
                }
            }
        }
        for method in [Method::PATCH, Method::OPTIONS] {
            calls.push(Call::of(method, path.clone()));
        }
    }
    for path in ["/", "/openapi.json", "/nowhere", "/chat/lobby/nowhere", "/%FF"] {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS] {
            calls.push(Call::of(method, path));
        }
    }
    calls
}

/// A response without the parts that differ each time.
fn comparable_part(response: &HttpResponse) -> (u16, BTreeMap<String, String>, Value) {
    let mut headers: BTreeMap<String, String> = response.headers().collect();
    for varying in [
        "date",
        "x-request-id",
        "access-control-allow-origin",
        "access-control-expose-headers",
    ] {
        headers.remove(varying);
    }
    let is_stream = headers.get("content-type").is_some_and(|value| value == "text/event-stream");
    let mut body = match response.json() {
        Ok(body) => body,
        Err(_) if is_stream => Value::Null,
        Err(_) => response.text().into(),
    };
    if let Some(body) = body.as_object_mut() {
        body.remove("request_id");
    }
    (response.status(), headers, body)
}

#[tokio::test]
async fn responses_do_not_depend_on_origin() {
    let stack = Stack::builder().gateway("CORS_ORIGINS", LISTED).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let anyone = stack.client().unwrap();
    let document = ann.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap();
    let mut statuses = BTreeMap::<u16, usize>::new();
    for call in calls(&document) {
        let users = (&ann, &anyone);
        let (plain, listed, foreign) = tokio::join!(
            call.send_as(users, None),
            call.send_as(users, Some(LISTED)),
            call.send_as(users, Some(FOREIGN)),
        );
        let what = call.name();
        assert_eq!(comparable_part(&listed), comparable_part(&plain), "{what}");
        assert_eq!(comparable_part(&foreign), comparable_part(&plain), "{what}");
        if plain.status() >= 400 && call.method != Method::HEAD {
            plain.expect_error_shape().unwrap_or_else(|failure| panic!("{what}: {failure}"));
        }
        assert_eq!(listed.header("access-control-allow-origin"), Some(LISTED), "{what}: {listed}");
        for response in [&plain, &foreign] {
            assert_eq!(response.header("access-control-allow-origin"), None, "{what}: {response}");
        }
        assert!(plain.headers().any(|(name, value)| name == "vary" && value.contains("Origin")), "{what}: {plain}");
        assert!(listed.header("access-control-expose-headers").unwrap().contains("retry-after"), "{what}");
        *statuses.entry(plain.status()).or_default() += 1;
    }
    for status in [200, 204, 400, 401, 404, 405, 413, 415] {
        assert!(statuses.contains_key(&status), "no response had {status}: {statuses:?}");
    }
}

#[tokio::test]
async fn preflight_allows_headers_and_methods_of_clients() {
    let origins = format!("{LISTED},{APP_ORIGIN}");
    let stack = Stack::builder().gateway("CORS_ORIGINS", &origins).start().await.unwrap();
    let client = stack.client().unwrap();
    let preflight = async |origin: &str, path: &str| {
        let request = client
            .request(Method::OPTIONS, path)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,cache-control");
        client.send(request).await.unwrap()
    };
    for origin in [LISTED, APP_ORIGIN] {
        for path in ["/chat/one/message", "/user/", "/nowhere"] {
            let response = preflight(origin, path).await;
            assert_eq!(response.status(), 204, "{response}");
            assert_eq!(response.header("access-control-allow-origin"), Some(origin));
            let allowed: Vec<&str> = response.header("access-control-allow-headers").unwrap().split(", ").collect();
            for header in [
                "authorization",
                "content-type",
                "cache-control",
                "last-event-id",
                "idempotency-key",
                "if-none-match",
                "x-requested-with",
                "traceparent",
                "tracestate",
                "baggage",
                "x-csrf",
                "x-session",
            ] {
                assert!(allowed.contains(&header), "{header}: {response}");
            }
            let methods: Vec<&str> = response.header("access-control-allow-methods").unwrap().split(", ").collect();
            assert!(
                ["GET", "POST", "PUT", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)),
                "{response}"
            );
            assert!(response.header("access-control-max-age").unwrap().parse::<u32>().unwrap() >= 600);
        }
    }
    let foreign = preflight(FOREIGN, "/chat/one/message").await;
    assert_eq!(foreign.header("access-control-allow-origin"), None, "{foreign}");
}

#[tokio::test]
async fn only_listed_origins_may_read_responses() {
    let stack = Stack::builder().gateway("CORS_ORIGINS", LISTED).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;

    let listed = create_from(&ann, LISTED, "one").await;
    assert_eq!((listed.status(), listed.header("access-control-allow-origin")), (201, Some(LISTED)));
    let exposed: Vec<&str> = listed.header("access-control-expose-headers").unwrap().split(", ").collect();
    for header in [
        "message-id",
        "message-seq",
        "location",
        "link",
        "retry-after",
        "x-first-seq",
        "etag",
    ] {
        assert!(exposed.contains(&header), "{header}: {listed}");
    }

    let own = create_from(&ann, &stack.gateways[0].url(), "two").await;
    assert_eq!(own.status(), 201, "{own}");

    // The browser of a page would have sent a preflight first, so a page could not have sent this token.
    let foreign = create_from(&ann, FOREIGN, "three").await;
    assert_eq!((foreign.status(), foreign.header("access-control-allow-origin")), (201, None), "{foreign}");
}

#[tokio::test]
async fn no_origin_is_allowed_by_default() {
    let (_stack, ann) = with_lobby(Stack::start().await.unwrap()).await;
    let response = ann.send_json("/chat/one", &json!({})).await.unwrap();
    assert_eq!(response.header("access-control-allow-origin"), None);
    let foreign = create_from(&ann, LISTED, "two").await;
    assert_eq!(foreign.header("access-control-allow-origin"), None, "a browser hides the response from the page");
}
