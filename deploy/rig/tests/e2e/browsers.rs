//! Pages of other origins may read answers if the operator lists them; and answers differ in that alone.

use std::collections::BTreeMap;

use rig::{Answer, App, Method, Stack};
use serde_json::{Value, json};

use crate::scene::furnish;

const LISTED: &str = "https://chat.example.org";
const OF_AN_APP: &str = "capacitor://localhost";
const FOREIGN: &str = "https://evil.example.org";

async fn create_from(app: &App, origin: &str, room: &str) -> Answer {
    let request = app.request(Method::POST, &format!("/chat/{room}")).header("origin", origin);
    app.send(request).await.unwrap()
}

/// One call, made by nobody in particular or by a member.
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

    async fn from(&self, (member, anyone): (&App, &App), origin: Option<&str>) -> Answer {
        let app = if self.is_member { member } else { anyone };
        let mut request = app.request(self.method.clone(), &self.path);
        if !self.body.is_empty() {
            request = request.header("content-type", self.content_type).body(self.body.clone());
        }
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        app.send(request).await.unwrap()
    }
}

/// Every operation in every way that can be repeated: as it should be (where it only reads), by nobody, with garbage in the
/// path, in the body and for a body, by a method it does not know, by HEAD and by OPTIONS. And what is no operation.
fn calls(document: &Value) -> Vec<Call> {
    let mut calls = Vec::new();
    for (template, methods) in document["paths"].as_object().unwrap() {
        let path = template.replace("{room}", "lobby").replace("{public_id}", "ann");
        let query = if path.ends_with("/message") { "?wait_s=1" } else { "" };
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

/// An answer without what differs each time.
fn essence(answer: &Answer) -> (u16, BTreeMap<String, String>, Value) {
    let mut headers: BTreeMap<String, String> = answer.headers().collect();
    for varying in [
        "date",
        "x-request-id",
        "access-control-allow-origin",
        "access-control-expose-headers",
    ] {
        headers.remove(varying);
    }
    let is_stream = headers.get("content-type").is_some_and(|value| value == "text/event-stream");
    let mut body = match answer.json() {
        Ok(body) => body,
        Err(_) if is_stream => Value::Null,
        Err(_) => answer.text().into(),
    };
    if let Some(body) = body.as_object_mut() {
        body.remove("request_id");
    }
    (answer.status(), headers, body)
}

#[tokio::test]
async fn every_answer_is_the_same_whatever_page_asks() {
    let stack = Stack::builder().gateway("CORS_ORIGINS", LISTED).start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    let anyone = stack.app().unwrap();
    let document = ann.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap();
    let mut statuses = BTreeMap::<u16, usize>::new();
    for call in calls(&document) {
        let by = (&ann, &anyone);
        let (plain, listed, foreign) =
            tokio::join!(call.from(by, None), call.from(by, Some(LISTED)), call.from(by, Some(FOREIGN)),);
        let what = call.name();
        assert_eq!(essence(&listed), essence(&plain), "{what}");
        assert_eq!(essence(&foreign), essence(&plain), "{what}");
        if plain.status() >= 400 && call.method != Method::HEAD {
            plain.expect_error_shape().unwrap_or_else(|failure| panic!("{what}: {failure}"));
        }
        assert_eq!(listed.header("access-control-allow-origin"), Some(LISTED), "{what}: {listed}");
        for answer in [&plain, &foreign] {
            assert_eq!(answer.header("access-control-allow-origin"), None, "{what}: {answer}");
        }
        assert!(plain.headers().any(|(name, value)| name == "vary" && value.contains("Origin")), "{what}: {plain}");
        assert!(listed.header("access-control-expose-headers").unwrap().contains("retry-after"), "{what}");
        *statuses.entry(plain.status()).or_default() += 1;
    }
    for status in [200, 204, 400, 401, 404, 405, 413, 415] {
        assert!(statuses.contains_key(&status), "nothing was answered with {status}: {statuses:?}");
    }
}

#[tokio::test]
async fn a_preflight_lets_through_what_clients_send() {
    let origins = format!("{LISTED},{OF_AN_APP}");
    let stack = Stack::builder().gateway("CORS_ORIGINS", &origins).start().await.unwrap();
    let app = stack.app().unwrap();
    let preflight = async |origin: &str, path: &str| {
        let request = app
            .request(Method::OPTIONS, path)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,cache-control");
        app.send(request).await.unwrap()
    };
    for origin in [LISTED, OF_AN_APP] {
        for path in ["/chat/one/message", "/user/", "/nowhere"] {
            let answer = preflight(origin, path).await;
            assert_eq!(answer.status(), 204, "{answer}");
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
            let allowed: Vec<&str> = answer.header("access-control-allow-headers").unwrap().split(", ").collect();
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
                assert!(allowed.contains(&header), "{header}: {answer}");
            }
            let methods: Vec<&str> = answer.header("access-control-allow-methods").unwrap().split(", ").collect();
            assert!(
                ["GET", "POST", "PUT", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)),
                "{answer}"
            );
            assert!(answer.header("access-control-max-age").unwrap().parse::<u32>().unwrap() >= 600);
        }
    }
    let foreign = preflight(FOREIGN, "/chat/one/message").await;
    assert_eq!(foreign.header("access-control-allow-origin"), None, "{foreign}");
}

#[tokio::test]
async fn listed_origins_and_our_own_page_may_read_and_what_is_no_page_is_let_alone() {
    let stack = Stack::builder().gateway("CORS_ORIGINS", LISTED).start().await.unwrap();
    let (stack, ann) = furnish(stack).await;

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

    // No page could have sent this token. Its browser would have asked first.
    let foreign = create_from(&ann, FOREIGN, "three").await;
    assert_eq!((foreign.status(), foreign.header("access-control-allow-origin")), (201, None), "{foreign}");
}

#[tokio::test]
async fn without_a_list_no_origin_is_allowed() {
    let (_stack, ann) = furnish(Stack::start().await.unwrap()).await;
    let answer = ann.send_json("/chat/one", &json!({})).await.unwrap();
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let foreign = create_from(&ann, LISTED, "two").await;
    assert_eq!(foreign.header("access-control-allow-origin"), None, "a browser keeps the answer from the page");
}
