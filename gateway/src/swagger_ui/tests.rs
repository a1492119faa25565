//! What a browser relies on: headers, encodings, and that the page finds its files.

use poem::{Route, handler, http::Method};

use super::*;

const DOCUMENT: &str = r#"{"openapi":"3.0.3"}"#;

#[handler]
fn api_call() -> &'static str {
    "the API"
}

fn docs() -> Docs<Route> {
    Docs::in_front_of(Route::new().nest("/", Route::new().at("/chat/:room", get(api_call))), DOCUMENT)
}

async fn fetch(path: &str, headers: &[(&str, &str)]) -> Response {
    let request = Request::builder().uri_str(path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    docs().call(request.finish()).await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn text(response: Response) -> String {
    response.into_body().into_string().await.unwrap()
}

/// The addresses of the page's own files, as a browser finds them.
async fn files_of_the_page() -> Vec<String> {
    let page = text(fetch("/", &[]).await).await;
    let addresses = page.split('"').filter(|part| part.starts_with("docs/"));
    addresses.map(|address| format!("/{address}")).collect()
}

#[tokio::test]
async fn the_page_leaves_every_other_path_to_the_api() {
    assert!(text(fetch("/", &[]).await).await.contains("<title>Roomcast</title>"));
    for path in ["/chat/lobby", "/chat/docs", "/chat/openapi.json"] {
        assert_eq!(text(fetch(path, &[]).await).await, "the API", "{path}");
    }
    for path in ["/docs", "/docs/1/start.js", "/nothing"] {
        let request = Request::builder().uri_str(path).finish();
        assert_eq!(docs().call(request).await.unwrap_err().status(), StatusCode::NOT_FOUND, "{path}");
    }
    let post = Request::builder().method(Method::POST).uri_str("/").finish();
    let refused = docs().call(post).await.unwrap_err();
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_page_is_html_under_a_strict_policy() {
    let page = fetch("/", &[]).await;
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
    assert_eq!(header(&page, "cache-control"), "no-cache");
    assert_eq!(header(&page, "x-content-type-options"), "nosniff");
    assert_eq!(header(&page, "x-frame-options"), "DENY");
    assert_eq!(header(&page, "referrer-policy"), "no-referrer");
    let policy = header(&page, "content-security-policy");
    assert!(policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"), "{policy}");
}

#[tokio::test]
async fn the_page_names_only_files_that_this_server_has() {
    let page = include_str!("index.html");
    assert!(!page.contains("//"), "an address of another host");
    let files = files_of_the_page().await;
    assert_eq!(files.len(), 4, "{files:?}");
    for path in files {
        let file = fetch(&path, &[("accept-encoding", "gzip")]).await;
        assert_eq!(file.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&file, "cache-control"), IMMUTABLE, "{path}");
        assert_eq!(header(&file, "content-encoding"), "gzip", "{path}");
        assert!(path.contains(env!("SWAGGER_UI_VERSION")), "{path}");
    }
}

#[tokio::test]
async fn both_encodings_carry_the_same_bytes() {
    for path in files_of_the_page().await {
        let gzip = fetch(&path, &[("accept-encoding", "gzip")]).await.into_body().into_vec().await.unwrap();
        let plain = fetch(&path, &[]).await;
        assert_eq!(header(&plain, "content-encoding"), "", "{path}");
        assert_eq!(header(&plain, "vary"), "Accept-Encoding", "{path}");
        let plain = plain.into_body().into_vec().await.unwrap();
        assert!(unpack(&gzip) == plain && !plain.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn the_document_is_the_callers() {
    let document = fetch("/openapi.json", &[]).await;
    assert_eq!(header(&document, "content-type"), "application/json");
    assert_eq!(header(&document, "cache-control"), "no-cache");
    assert_eq!(text(document).await, DOCUMENT);
}

#[tokio::test]
async fn a_known_etag_is_answered_without_a_body() {
    let etag = header(&fetch("/openapi.json", &[]).await, "etag").to_owned();
    for known in [
        etag.clone(),
        format!("\"other\", {etag}"),
        etag.replace("W/", ""),
        "*".to_owned(),
    ] {
        let answer = fetch("/openapi.json", &[("if-none-match", &known)]).await;
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(header(&answer, "etag"), etag);
        assert_eq!(header(&answer, "cache-control"), "no-cache");
        assert_eq!(text(answer).await, "");
    }
    let answer = fetch("/openapi.json", &[("if-none-match", "\"other\"")]).await;
    assert_eq!(answer.status(), StatusCode::OK);
}
