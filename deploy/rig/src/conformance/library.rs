//! The client libraries for server-sent events that are tested.

use super::check::Paths;
use super::programs::Program;

/// A library, and the program that follows with it the streams whose URLs are its arguments.
pub(super) struct Library {
    pub(super) name: &'static str,
    pub(super) program: Program,
}

/// All of them, in the order of the report.
pub(super) fn all(paths: &Paths) -> Vec<Library> {
    let clients = &paths.clients;
    let node = |file: &str| Program::new("node", &[&clients.join("node").join(file).display().to_string()]);
    let python = |file: &str| {
        let file = clients.join("python").join(file).display().to_string();
        Program::new(clients.join("python/venv/bin/python"), &[&file])
    };
    let classes = format!("{0}/classes:{0}/libraries/*", clients.join("kotlin/target").display());
    let library = |name, program| Library { name, program };
    vec![
        library("npm eventsource", node("follow-eventsource.mjs")),
        library("npm @microsoft/fetch-event-source", node("follow-fetch-event-source.mjs")),
        library("PyPI httpx-sse", python("follow_httpx_sse.py")),
        library("PyPI sseclient-py", python("follow_sseclient.py")),
        library("Go r3labs/sse", Program::new(clients.join("go/bin/follow"), &[])),
        library("Maven okhttp-sse", Program::new("java", &["-cp", &classes, "follow.FollowKt"])),
        library("crates.io eventsource-client", Program::new(clients.join("rust/target/debug/follow"), &[])),
    ]
}
