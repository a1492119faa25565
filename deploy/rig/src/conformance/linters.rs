//! What linters say of the document.

use std::time::Duration;

use super::programs::Program;
use super::{Check, Places};

/// Longest time of one linter, which takes seconds.
const WITHIN: Duration = Duration::from_mins(3);

pub(super) async fn run(places: &Places) -> Vec<Check> {
    let tool = |name: &str| places.clients.join("node/node_modules/.bin").join(name);
    let document = places.document.display().to_string();
    let rules = |file: &str| places.rules.join(file).display().to_string();
    let redocly = Program::new(tool("redocly"), &["lint", &document, "--config", &rules("redocly.yaml")])
        // It would report to its maker, and ask for a newer version.
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
