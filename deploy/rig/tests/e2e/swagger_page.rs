//! The Swagger page in a browser: every operation is executed from top to bottom.

use std::path::PathBuf;
use std::time::Duration;

use rig::{ApiClient, Browser, Failure, Result, Stack, eventually};
use serde_json::{Value, json};

/// How long one execution may take; the bounded stream ends by itself after its example's seconds.
const EXECUTED_WITHIN: Duration = Duration::from_secs(30);
/// The variable that names a file in which the picture of the page is kept.
const SCREENSHOT_VARIABLE: &str = "RIG_SCREENSHOT";

/// Method and path of every operation on the page, in its order.
const LIST: &str = r"
    return [...document.querySelectorAll('.opblock')].map(block => [
        block.querySelector('.opblock-summary-method').textContent.trim().toLowerCase(),
        block.querySelector('.opblock-summary-path').getAttribute('data-path'),
    ]);";
/// Opens the operation whose number is the argument and presses Execute once it is there.
const EXECUTE: &str = r"
    const block = document.querySelectorAll('.opblock')[arguments[0]];
    const button = block.querySelector('button.execute');
    if (button) { button.click(); return true; }
    if (!block.classList.contains('is-open')) block.querySelector('.opblock-summary-control').click();
    return false;";
/// The status shown for the operation whose number is the argument and the text of the response; before there is one,
/// the text that the operation shows.
const RESULT: &str = r"
    const block = document.querySelectorAll('.opblock')[arguments[0]];
    const live = block.querySelector('.live-responses-table .response');
    if (!live) return [null, block.innerText];
    return [live.querySelector('.response-col_status').textContent.trim(),
            live.querySelector('.response-col_description').textContent.trim()];";

/// Closes the operation whose number is the argument: every open one makes the page slower.
const CLOSE: &str = r"
    document.querySelectorAll('.opblock')[arguments[0]].querySelector('.opblock-summary-control').click();";
/// Height of the operation whose number is the argument, with its response, in pixels.
const HEIGHT: &str = r"
    return Math.round(document.querySelectorAll('.opblock')[arguments[0]].getBoundingClientRect().height);";
/// Whether the bar is visible at the end of the page.
const BAR_STAYS: &str = r"
    window.scrollTo(0, document.body.scrollHeight);
    const bar = document.querySelector('header').getBoundingClientRect();
    return window.scrollY > 0 && bar.top === 0 && bar.height > 0;";
/// Greatest height of an operation: the tester sees the result without losing the position on the page.
const HIGHEST: u64 = 3_000;
/// The text of the page about the user who is signed in.
const WHO: &str = "return document.getElementById('who').textContent;";

async fn document(client: &ApiClient) -> Value {
    client.get("/openapi.json").await.unwrap().expect(200).unwrap().json().unwrap()
}

/// The success codes that the document gives an operation.
fn success_codes(document: &Value, method: &str, path: &str) -> Vec<String> {
    let responses = document["paths"][path][method]["responses"].as_object().unwrap();
    responses.keys().filter(|code| code.starts_with('2')).cloned().collect()
}

async fn execute(browser: &Browser, number: usize) -> Result<(String, String)> {
    let pressed = eventually(EXECUTED_WITHIN, "the button Execute", async || {
        match browser.run(EXECUTE, vec![json!(number)]).await? {
            Value::Bool(true) => Ok(()),
            _ => Err(Failure::new("it is not there")),
        }
    });
    pressed.await?;
    eventually(EXECUTED_WITHIN, "a response on the page", async || {
        let shown = browser.run(RESULT, vec![json!(number)]).await?;
        match (shown[0].as_str(), shown[1].as_str()) {
            (Some(status), Some(text)) => Ok((status.chars().take(3).collect(), text.to_owned())),
            _ => Err(Failure::new(format!("there is {}", shown[1]))),
        }
    })
    .await
}

#[tokio::test]
async fn every_operation_executes_in_page_order() {
    let stack = Stack::start().await.unwrap();
    let client = stack.client().unwrap();
    let document = document(&client).await;
    let origin = stack.gateways[0].url();
    let browser = Browser::start(stack.directory()).await.unwrap();
    browser.open(&format!("{origin}/")).await.unwrap();

    let declared: usize =
        document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum();
    let operations = eventually(EXECUTED_WITHIN, "all operations are on the page", async || {
        let list = browser.run(LIST, Vec::new()).await?;
        match list.as_array() {
            Some(list) if list.len() == declared => Ok(list.clone()),
            _ => Err(Failure::new(format!("{declared} are declared, and there are {list}"))),
        }
    })
    .await
    .unwrap();
    let mut problems = Vec::new();
    let mut who = "Not signed in";
    for (number, operation) in operations.iter().enumerate() {
        // Swagger UI puts invisible spaces into the text of a path, not into the attribute.
        let (method, path) = (operation[0].as_str().unwrap(), operation[1].as_str().unwrap());
        let expected = success_codes(&document, method, path);
        if path == "/direct/{username}" {
            // A direct room takes two.
            client.register("test2").await.unwrap();
        }
        let (status, text) = execute(&browser, number).await.unwrap();
        if !expected.contains(&status) {
            problems.push(format!("{method} {path}: expected {expected:?}, the page shows {status}: {text}"));
        }
        let height = browser.run(HEIGHT, vec![json!(number)]).await.unwrap().as_u64().unwrap();
        println!("{method} {path}: {status}, {height} px");
        if height > HIGHEST {
            problems.push(format!("{method} {path} takes {height} px"));
        }
        match path {
            "/user" | "/auth/login" => who = "Signed in as test1",
            "/auth/logout" => who = "Not signed in",
            _ => {}
        }
        // The first stays open for the picture.
        if number > 0 {
            browser.run(CLOSE, vec![json!(number)]).await.unwrap();
        }
        let shown = browser.run(WHO, Vec::new()).await.unwrap();
        if shown != who {
            problems.push(format!("{method} {path}: expected `{who}`, the page shows {shown}"));
        }
    }
    assert_eq!(browser.run(BAR_STAYS, Vec::new()).await.unwrap(), Value::Bool(true), "the bar scrolls away");
    let picture = std::env::var_os(SCREENSHOT_VARIABLE).map(PathBuf::from);
    let picture = picture.unwrap_or_else(|| stack.directory().join("swagger.png"));
    browser.run("window.scrollTo(0, 0)", Vec::new()).await.unwrap();
    browser.screenshot(&picture).await.unwrap();
    assert!(problems.is_empty(), "{}", problems.join("\n"));

    let requests = browser.requests_of(&origin).await.unwrap();
    assert!(
        requests.iter().any(|url| url.contains("/openapi.json")),
        "the network log is of no use: {requests:?}"
    );
    let foreign: Vec<&String> = requests.iter().filter(|url| !is_own_request(url, &origin)).collect();
    assert!(foreign.is_empty(), "requests left for {foreign:?}");
}

fn is_own_request(url: &str, origin: &str) -> bool {
    url.starts_with(&format!("{origin}/")) || url.starts_with("data:") || url.starts_with("blob:")
}
