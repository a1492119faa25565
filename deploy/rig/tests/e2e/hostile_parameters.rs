//! Both back ends respond alike to hostile values of parameters and fields.

use rig::{ApiClient, Backend, Method, Stack};
use serde_json::{Value, json};

use crate::error_shape::{fill_in, operations};
use crate::fixture::with_lobby;

/// Values as they appear in a URL.
const VALUES: [&str; 16] = [
    "%00",
    "a%00b",
    "%FF",
    "%ED%A0%80",
    "%E2%80%A8",
    "%C2%85",
    "%EF%BB%BF",
    "%E3%85%A4",
    "'%20OR%201=1--",
    "%5C",
    "%25",
    "-1",
    "+1",
    "007",
    "9223372036854775808",
    "01A20AB1-49A0-708D-8BF6-055E5F5DF19A",
];

/// Values as they appear in a JSON string.
const TEXTS: [&str; 8] = [
    r"\u0000",
    r"a\u0000b",
    r"\u2028",
    r"\u3164",
    r"\ufeff",
    r"\uffff",
    r"\ud83e\udd80",
    r"'; DROP TABLE users; --",
];

/// A request with a hostile value, and the status and error code that it got.
type Responses = Vec<(String, u16, Value)>;

async fn responses(backend: Backend) -> Responses {
    let (_stack, ann) = with_lobby(Stack::builder().backend(backend).start().await.unwrap()).await;
    let document = ann.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap();
    let mut responses = Responses::new();
    for (template, method, operation) in operations(&document) {
        // It would end the session of the following requests.
        if template == "/auth/logout" {
            continue;
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            for value in VALUES {
                let path = match parameter["in"].as_str().unwrap() {
                    "path" => format!("{}?wait_s=1", fill_in(&template, value)),
                    "query" => format!("{}?{name}={value}&wait_s=1", fill_in(&template, "lobby")),
                    _ => continue,
                };
                responses.push(send_hostile_value(&ann, &method, &path, String::new()).await);
            }
        }
        if operation.get("requestBody").is_some() {
            for text in TEXTS {
                let body = format!(
                    r#"{{"message":"{text}","email":"{text}","username":"{text}","password":"{text}12345678","public_id":"{text}"}}"#
                );
                responses.push(send_hostile_value(&ann, &method, &fill_in(&template, "lobby"), body).await);
            }
        }
    }
    responses
}

async fn send_hostile_value(client: &ApiClient, method: &Method, path: &str, body: String) -> (String, u16, Value) {
    let what = format!("{method} {path} {body}");
    let request = client.request(method.clone(), path);
    let request = match body.as_str() {
        "" => request,
        _ => request.header("content-type", "application/json").body(body),
    };
    let response = client.send(request).await.unwrap();
    assert!(response.status() < 500, "{what}: {response}");
    let code = if response.status() < 400 {
        json!(null)
    } else {
        let problem = response.expect_error_shape().unwrap();
        json!([
            problem["code"],
            problem["errors"][0]["field"],
            problem["errors"][0]["code"]
        ])
    };
    (what, response.status(), code)
}

#[tokio::test]
async fn both_back_ends_respond_alike_to_hostile_values() {
    let (sqlite, postgres) = tokio::join!(responses(Backend::Sqlite), responses(Backend::Postgres));
    assert!(sqlite.len() > 300, "only {}", sqlite.len());
    println!("{} hostile values", sqlite.len());
    for (one, other) in sqlite.iter().zip(&postgres) {
        assert_eq!(one, other);
    }
    let after_nul = sqlite.iter().find(|(what, ..)| what.starts_with("GET /chat?after=%00")).unwrap();
    assert_eq!((after_nul.1, &after_nul.2), (400, &json!(["invalid_field", "after", "bad_characters"])));
}
