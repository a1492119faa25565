//! Runs clients that were generated from the document: each registers, signs in, creates a room, posts, reads history and is
//! refused. The rig then checks that the room holds what the client posted.

use std::time::Duration;

use super::check::{Check, Paths};
use super::programs::Program;
use crate::failure::{Failure, Result};
use crate::stack::Stack;

/// Longest time of one client program, which takes seconds.
const WITHIN: Duration = Duration::from_mins(1);

/// What each of them posts.
const TEXT: &str = "Grüße, 世界 👋 \"quoted\"\nand a second line";

pub(super) async fn run(paths: &Paths) -> Result<Vec<Check>> {
    let stack = Stack::builder().without_limits().start().await?;
    let clients = &paths.clients;
    let classes = format!("{0}/classes:{0}/libraries/*", clients.join("kotlin/target").display());
    let node_program = clients.join("node/compiled/story.js").display().to_string();
    let python_program = clients.join("python/story.py").display().to_string();
    let generated = clients.join("python/generated").display().to_string();
    let programs = [
        ("typescript", Program::new("node", &[&node_program])),
        ("kotlin", Program::new("java", &["-cp", &classes, "story.StoryKt"])),
        (
            "python",
            Program::new(clients.join("python/venv/bin/python"), &[&python_program]).variable("PYTHONPATH", &generated),
        ),
        ("go", Program::new(clients.join("go/bin/story"), &[])),
    ];
    let mut checks = Vec::new();
    for (language, program) in programs {
        checks.push(Check::new(format!("client for {language}"), run_client(&stack, language, program).await));
    }
    Ok(checks)
}

/// Runs the program of one client, and checks that the room holds what it posted.
async fn run_client(stack: &Stack, language: &str, program: Program) -> Result<String> {
    let client = stack.client()?;
    let name = format!("by-{language}");
    program.with([stack.gateways[0].url(), name.clone(), TEXT.to_owned()]).run(WITHIN).await?;
    let reader = client.register(&format!("reader-of-{language}")).await?;
    let history = reader.history(&name, "").await?;
    let texts: Vec<Option<&str>> = history.iter().map(|message| message["message"].as_str()).collect();
    if texts == [Some(TEXT)] {
        Ok("registered, signed in, created a room, posted, read history, was refused".to_owned())
    } else {
        Err(Failure::new(format!("the room holds {texts:?}")))
    }
}
