//! Schemathesis calls every operation of the document, with what the document allows and with what it does not, in the shoes
//! of four kinds of caller.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;

use super::programs::Program;
use super::{Check, Places};
use crate::{App, Failure, Result, Stack};

/// Longest time of one caller, which takes a minute or two.
const WITHIN: Duration = Duration::from_mins(15);

/// What everything random follows from.
const SEED: u32 = 20_261_129;

/// What stands above the failures in its output.
const FAILURES: &str = "= FAILURES =";

/// The room that only its owner may know of.
const PRIVATE_ROOM: &str = "private-room";

pub(super) async fn run(places: &Places) -> Result<Vec<Check>> {
    // The document says what a public server accepts; the rig eases it otherwise.
    let stack = Stack::builder().without_limits().gateway("PASSWORD_MIN_LENGTH", "8").start().await?;
    let nobody = stack.app()?;
    // The first user is an admin.
    let admin = nobody.register("admin-user").await?;
    let member = nobody.register("member-user").await?;
    let outsider = nobody.register("outsider-user").await?;
    member
        .send_json(&format!("/chat/{PRIVATE_ROOM}"), &serde_json::json!({"private": true}))
        .await?
        .expect(201)?;
    member.post(PRIVATE_ROOM, "nobody else may read this").await?;
    let callers = [
        ("anonymous", &nobody, ""),
        ("member", &member, "member-user"),
        ("outsider", &outsider, "outsider-user"),
        ("admin", &admin, "admin-user"),
    ];
    // Side by side: each waits for its streams most of the time.
    let checks = callers.map(|(caller, app, name)| {
        let stack = &stack;
        async move { Check::new(format!("Schemathesis as {caller}"), call(places, stack, app, name).await) }
    });
    Ok(join_all(checks).await)
}

async fn call(places: &Places, stack: &Stack, app: &App, name: &str) -> Result<String> {
    let settings = places.rules.join("schemathesis");
    let program = Program::new(
        places.clients.join("python/venv/bin/schemathesis"),
        &[
            "--config-file",
            &settings.join("schemathesis.toml").display().to_string(),
            "run",
            &places.document.display().to_string(),
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
        .variable("ROOMCAST_TOKEN", app.token())
        .variable("ROOMCAST_USER", name)
        .variable("NO_COLOR", "1");
    let (is_clean, output) = program.output(WITHIN).await?;
    if is_clean {
        return Ok(summary(&output));
    }
    let file = places.clients.join(format!("schemathesis-{}.txt", if name.is_empty() { "nobody" } else { name }));
    fs::write(&file, &output)?;
    let failures = output.split_once(FAILURES).map_or(output.as_str(), |(_, failures)| failures);
    Err(Failure::new(format!("the whole output is in {}:\n{failures}", file.display())))
}

/// The line that says how much was tried.
fn summary(output: &str) -> String {
    let cases = output.lines().rev().find(|line| line.contains("generated"));
    cases.unwrap_or("no failures").trim().to_owned()
}
