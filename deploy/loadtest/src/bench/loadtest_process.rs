//! Runs `loadtest` for a load in a process of its own, so that its processor time and memory are its own, and its
//! failure ends no other load.

use std::process::{Output, Stdio};
use std::time::Duration;

use rig::programs::command;
use rig::{Explain as _, Failure, Result, service_binary};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::loads::Load;
use super::provenance::Provenance;
use super::report::{Outcome, Round};

/// Longest time of one round, besides its windows and the filling of rooms: two servers are started, loaded and waited
/// for. A longer run is killed and counts as failed.
const ROUND_WITHIN: Duration = Duration::from_mins(8);
/// The same for loads that first fill a room and wait until its messages are stored.
const FILLED_WITHIN: Duration = Duration::from_mins(30);

/// What `bench` changes in every load.
#[derive(Debug, Clone, Copy)]
pub struct LoadOverrides {
    /// Seconds of a window; `None` for those of the preset.
    pub seconds: Option<u64>,
    /// Seconds under load before the first window; `None` for those of the preset.
    pub warm_up: Option<u64>,
    /// Messages of each room whose history is read; `None` for those of the load.
    pub messages: Option<u64>,
    /// How often each load is run.
    pub rounds: u32,
    /// Whether the loads that compare with nchan run nchan.
    pub has_peer: bool,
}

/// Runs `load` and returns its outcome, also if it failed.
pub async fn run_load(load: &Load, overrides: LoadOverrides) -> Outcome {
    let arguments = arguments(load, overrides);
    let provenance = Provenance::here_and_now();
    let mut rounds = Vec::new();
    let within = within(load, overrides);
    let failure = measure(&arguments, within, &mut rounds).await.err().map(|failure| failure.to_string());
    Outcome {
        name: load.name.to_owned(),
        preset: load.preset.to_owned(),
        provenance,
        arguments,
        rounds,
        failure,
    }
}

fn arguments(load: &Load, overrides: LoadOverrides) -> Vec<String> {
    let mut arguments: Vec<String> = [load.preset, "--own", "--json", "--quiet"].map(str::to_owned).into();
    arguments.extend(load.arguments.iter().map(|argument| (*argument).to_owned()));
    if load.has_peer && overrides.has_peer {
        arguments.extend(["--peer", "nchan"].map(str::to_owned));
    }
    let values = [
        ("--rounds", (overrides.rounds > 1).then_some(overrides.rounds.into())),
        ("--seconds", overrides.seconds),
        ("--warm-up", overrides.warm_up),
        ("--messages", overrides.messages.filter(|_| load.fills_rooms())),
    ];
    for (name, value) in values {
        let Some(value) = value else { continue };
        // clap accepts an argument once.
        if let Some(at) = arguments.iter().position(|argument| argument == name) {
            arguments.drain(at..at + 2);
        }
        arguments.extend([name.to_owned(), value.to_string()]);
    }
    arguments
}

/// Longest time of all rounds.
fn within(load: &Load, overrides: LoadOverrides) -> Duration {
    let round = if load.fills_rooms() {
        FILLED_WITHIN
    } else {
        ROUND_WITHIN
    };
    let windows = Duration::from_secs(4 * (overrides.seconds.unwrap_or(0) + overrides.warm_up.unwrap_or(0)));
    (round + windows) * overrides.rounds
}

/// Adds the figures that `loadtest` prints to `rounds`, a line for each round, also if order was violated, and also
/// those of before a failure.
async fn measure(arguments: &[String], within: Duration, rounds: &mut Vec<Round>) -> Result<()> {
    let mut loadtest = Command::from(command(&service_binary("loadtest")?));
    loadtest.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut loadtest = loadtest.spawn()?;
    let lines = loadtest.stdout.take().map(BufReader::new).map(BufReader::lines);
    let mut lines = lines.ok_or_else(|| Failure::new("loadtest has no output"))?;
    let running = async {
        while let Some(line) = lines.next_line().await? {
            rounds.push(serde_json::from_str(&line).explain(|| "loadtest printed no figures".to_owned())?);
        }
        check_ended(&loadtest.wait_with_output().await?)
    };
    let ended = timeout(within, running).await;
    ended.map_err(|_| Failure::new(format!("not done within {} s", within.as_secs())))?
}

/// Succeeds if `loadtest` came to its end, with or without violations of order.
fn check_ended(output: &Output) -> Result<()> {
    if matches!(output.status.code(), Some(0 | 1)) {
        return Ok(());
    }
    let printed = String::from_utf8_lossy(&output.stderr);
    let last = printed.lines().last().unwrap_or("it printed nothing");
    Err(Failure::new(format!("{last} ({})", output.status)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;
    use crate::bench::LOADS;

    const FULL: LoadOverrides = LoadOverrides {
        seconds: None,
        warm_up: None,
        messages: None,
        rounds: 1,
        has_peer: true,
    };

    fn arguments_of(name: &str, overrides: LoadOverrides) -> String {
        let load = LOADS.iter().find(|load| load.name == name).unwrap();
        arguments(load, overrides).join(" ")
    }

    #[test]
    fn overrides_replace_the_arguments_of_a_load() {
        let short = LoadOverrides {
            seconds: Some(1),
            messages: Some(200),
            rounds: 3,
            has_peer: false,
            ..FULL
        };
        assert_eq!(arguments_of("hot-10", FULL), "hot --own --json --quiet --streams 10 --peer nchan");
        assert_eq!(arguments_of("hot-10", short), "hot --own --json --quiet --streams 10 --rounds 3 --seconds 1");
        let history = "history-hot --own --json --quiet --rooms 1 --rounds 3 --seconds 1 --messages 200";
        assert_eq!(arguments_of("history-hot", short), history);
    }

    #[test]
    fn violations_end_a_run_and_failures_are_named() {
        let output = |code: i32, printed: &str| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: Vec::new(),
            stderr: printed.into(),
        };
        assert!(check_ended(&output(1, "")).is_ok());
        let failure = check_ended(&output(2, "first\nloadtest: no Redis\n")).unwrap_err().to_string();
        assert_eq!(failure, "loadtest: no Redis (exit status: 2)");
    }
}
