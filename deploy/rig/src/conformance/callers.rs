//! Runs Schemathesis as four kinds of caller: it calls every operation of the document, with valid and invalid input.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;

use super::check::{Check, Paths};
use super::programs::Program;
use crate::api_client::ApiClient;
use crate::failure::{Failure, Result};
use crate::stack::Stack;

/// Longest time of one caller, which takes a minute or two.
const WITHIN: Duration = Duration::from_mins(15);

/// What everything random follows from.
const SEED: u32 = 20_261_129;

/// The heading of the failures in its output.
const FAILURES: &str = "= FAILURES =";

/// A private room, which only its owner may see.
const PRIVATE_ROOM: &str = "private-room";

pub(super) async fn run(paths: &Paths) -> Result<Vec<Check>> {
    // The document describes a public server; other stacks of the rig accept shorter passwords.
    let stack = Stack::builder().without_limits().gateway("PASSWORD_MIN_LENGTH", "8").start().await?;
    let anonymous = stack.client()?;
    // The first user is an admin.
    let admin = anonymous.register("admin-user").await?;
    let member = anonymous.register("member-user").await?;
    let outsider = anonymous.register("outsider-user").await?;
    member
        .send_json(&format!("/chat/{PRIVATE_ROOM}"), &serde_json::json!({"private": true}))
        .await?
        .expect(201)?;
    member.post(PRIVATE_ROOM, "nobody else may read this").await?;
    let callers = [
        ("anonymous", &anonymous, ""),
        ("member", &member, "member-user"),
        ("outsider", &outsider, "outsider-user"),
        ("admin", &admin, "admin-user"),
    ];
    // They run concurrently: each waits for its streams most of the time.
    let checks = callers.map(|(caller, client, name)| {
        let stack = &stack;
        async move { Check::new(format!("Schemathesis as {caller}"), call(paths, stack, client, name).await) }
    });
    Ok(join_all(checks).await)
}

async fn call(paths: &Paths, stack: &Stack, client: &ApiClient, name: &str) -> Result<String> {
    let settings = paths.rules.join("schemathesis");
    let program = Program::new(
        paths.clients.join("python/venv/bin/schemathesis"),
        &[
            "--config-file",
            &settings.join("schemathesis.toml").display().to_string(),
            "run",
            &paths.document.display().to_string(),
            "--url",
            &stack.gateways[0].url(),
            "--seed",
            &SEED.to_string(),
        ],
    );
    let program = program
        .variable("SCHEMATHESIS_HOOKS", "hooks")
        .variable("PYTHONPATH", &settings.display().to_string())
        .variable("PYTHONDONTWRITEBYTECODE", "1")
        .variable("HOME", &stack.directory().display().to_string())
        .variable("ROOMCAST_ADDRESS", &stack.gateways[0].url())
        .variable("ROOMCAST_TOKEN", client.token())
        .variable("ROOMCAST_USER", name)
        .variable("NO_COLOR", "1");
    let (is_clean, output) = program.output(WITHIN).await?;
    if is_clean {
        return Ok(summary(&output));
    }
    let file = paths.clients.join(format!("schemathesis-{}.txt", if name.is_empty() { "nobody" } else { name }));
    fs::write(&file, &output)?;
    let failures = output.split_once(FAILURES).map_or(output.as_str(), |(_, failures)| failures);
    Err(Failure::new(format!("the whole output is in {}:\n{failures}", file.display())))
}

/// The line that says how much was tried.
fn summary(output: &str) -> String {
    let cases = output.lines().rev().find(|line| line.contains("generated"));
    cases.unwrap_or("no failures").trim().to_owned()
}
