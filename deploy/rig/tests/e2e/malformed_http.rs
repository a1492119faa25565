//! Malformed or too large request headers get an error in the one shape of the contract too.

use rig::Stack;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::SOON;

/// Sends bytes as they are and reads to the end of the connection.
async fn exchange(port: u16, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // The server may refuse and close before it has read everything.
    let _ = socket.write_all(bytes).await;
    let mut response = Vec::new();
    let _ = tokio::time::timeout(SOON, socket.read_to_end(&mut response)).await.unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn malformed_or_large_requests_get_the_error_shape() {
    let stack = Stack::start().await.unwrap();
    let port = stack.gateways[0].port();
    let huge_header = format!("GET /chat HTTP/1.1\r\nhost: x\r\nx-padding: {}\r\n\r\n", "x".repeat(40_000));
    let many_headers = format!("GET /chat HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(400));
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(40_000));
    let requests = [
        "hello\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /chat HTTP/1.1\r\nbad header\r\n\r\n",
        "POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        &huge_header,
        &many_headers,
        &long_path,
    ];
    for request in requests {
        let shown: String = request.chars().take(60).collect();
        let response = exchange(port, request.as_bytes()).await;
        assert!(response.starts_with("HTTP/1.1 4"), "{shown:?}: {response:?}");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.to_lowercase().contains("content-type: application/json"), "{shown:?}: {response:?}");
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        assert_eq!(body["status"], "fail", "{shown:?}: {response:?}");
        assert!(body["request_id"].is_string(), "{shown:?}: {response:?}");
    }
    stack.client().unwrap().get("/health/live").await.unwrap().expect(200).unwrap();
}
