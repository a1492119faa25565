//! Log lines on standard error, as JSON for machines or text for people.

mod repeats;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
pub use tracing_subscriber::filter::ParseError as InvalidFilter;

pub use repeats::{Audience, Event, Gravity};

use crate::settings::{LogArgs, LogFormat};

/// Stands in front of the filter, which may say otherwise. h2 warns of each client that resets requests, as often as it does.
const QUIET: &str = "error,h2=error";

/// Installs the process-wide subscriber and a panic hook that logs through it.
///
/// Fails if the filter cannot be read. Call it once, first thing in `main`.
pub fn init(args: &LogArgs) -> Result<(), InvalidFilter> {
    let filter = EnvFilter::builder().parse(format!("{QUIET},{}", args.filter))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => lines.compact().with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        // The payload may quote data of a request: only the place is logged.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(panic.place = place, "a task panicked at {place}");
    }));
    Ok(())
}
