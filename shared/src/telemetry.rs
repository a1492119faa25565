//! Log lines on standard error, as JSON for machines or text for people.

mod failure_series;
mod log_event;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
pub use tracing_subscriber::filter::ParseError as InvalidFilter;

pub use failure_series::FailureSeries;
pub use log_event::{Audience, LogEvent, Severity};

use crate::settings::{LogArgs, LogFormat};

/// The filter's defaults, which the setting may override. h2 warns about each client that resets requests, each time it does.
const DEFAULTS: &str = "error,h2=error";

/// Installs the process-wide subscriber and a panic hook that logs through it.
///
/// Fails if the filter cannot be parsed. It is called once, before anything is logged.
pub fn init(args: &LogArgs) -> Result<(), InvalidFilter> {
    let filter = EnvFilter::builder().parse(format!("{DEFAULTS},{}", args.filter))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => lines.compact().with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        // The payload may quote data of a request: only the location is logged.
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(panic.place = location, "a task panicked at {location}");
    }));
    Ok(())
}
