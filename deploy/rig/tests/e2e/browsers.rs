//! Pages of other origins may call the API if the operator lists them; the product's own page always may.

use rig::{App, Method, Stack};
use serde_json::json;

use crate::scene::furnish;

const LISTED: &str = "https://chat.example.org";

async fn create_from(app: &App, origin: &str, room: &str) -> rig::Answer {
    let request = app.request(Method::POST, &format!("/chat/{room}")).header("origin", origin);
    app.send(request).await.unwrap()
}

#[tokio::test]
async fn only_listed_origins_and_our_own_page_are_let_in() {
    let stack = Stack::builder().gateway("CORS_ORIGINS", LISTED).start().await.unwrap();
    let (stack, ann) = furnish(stack).await;

    let listed = create_from(&ann, LISTED, "one").await;
    assert_eq!((listed.status(), listed.header("access-control-allow-origin")), (201, Some(LISTED)));
    assert!(listed.header("access-control-expose-headers").unwrap().contains("message-id"));

    let own = create_from(&ann, &stack.gateways[0].url(), "two").await;
    assert_eq!(own.status(), 201, "{own}");

    let foreign = create_from(&ann, "https://evil.example.org", "three").await;
    assert_eq!(foreign.status(), 403, "{foreign}");
    foreign.expect_error_shape().unwrap();
    assert_eq!(ann.get("/chat/three").await.unwrap().status(), 404);

    let preflight = ann
        .request(Method::OPTIONS, "/chat/one/message")
        .header("origin", LISTED)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,idempotency-key");
    let preflight = ann.send(preflight).await.unwrap();
    assert!(preflight.status() < 300, "{preflight}");
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("idempotency-key"));
}

#[tokio::test]
async fn without_a_list_no_origin_is_allowed() {
    let (_stack, ann) = furnish(Stack::start().await.unwrap()).await;
    let answer = ann.send_json("/chat/one", &json!({})).await.unwrap();
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let foreign = create_from(&ann, LISTED, "two").await;
    assert_eq!(foreign.header("access-control-allow-origin"), None, "a browser keeps the answer from the page");
}
