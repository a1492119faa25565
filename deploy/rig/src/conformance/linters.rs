//! Runs linters on the OpenAPI document.

use std::time::Duration;

use super::check::{Check, Paths};
use super::programs::Program;

/// Longest time of one linter, which takes seconds.
const WITHIN: Duration = Duration::from_mins(3);

pub(super) async fn run(paths: &Paths) -> Vec<Check> {
    let tool = |name: &str| paths.clients.join("node/node_modules/.bin").join(name);
    let document = paths.document.display().to_string();
    let rules = |file: &str| paths.rules.join(file).display().to_string();
    let redocly = Program::new(tool("redocly"), &["lint", &document, "--config", &rules("redocly.yaml")])
        // Otherwise it sends usage data to its vendor, and asks for a newer version.
        .variable("REDOCLY_TELEMETRY", "off")
        .variable("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    let spectral = Program::new(
        tool("spectral"),
        &[
            "lint",
            &document,
            "--ruleset",
            &rules("spectral.yaml"),
            "--fail-severity",
            "hint",
        ],
    );
    let mut checks = Vec::new();
    for (name, program) in [("Redocly", redocly), ("Spectral", spectral)] {
        let outcome = program.run(WITHIN).await.map(|_| "the document is clean".to_owned());
        checks.push(Check::new(name, outcome));
    }
    checks
}
