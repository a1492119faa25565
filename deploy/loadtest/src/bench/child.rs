//! Runs `loadtest` for a load, as a process of its own: what it takes of the machine is its own, and what goes wrong in it
//! ends with it.

use std::process::{Output, Stdio};
use std::time::Duration;

use rig::programs::command;
use rig::{Explain as _, Failure, Result, service_binary};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::loads::Load;
use super::report::{Outcome, Round};

/// Longest time of one round, beside its windows and the filling of rooms: two servers are opened, loaded and caught up
/// with. What takes longer is broken off and counts as not brought to its end.
const ROUND_WITHIN: Duration = Duration::from_mins(8);
/// The same for loads that fill a room first, and wait until that is stored.
const FILLED_WITHIN: Duration = Duration::from_mins(30);

/// How long a load is measured, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Seconds of a window; as long as the load says without.
    pub seconds: Option<u64>,
    /// Seconds under load before that.
    pub warm_up: Option<u64>,
    /// Messages of each room whose history is read; as many as the load says without.
    pub messages: Option<u64>,
    /// How often all of it is run.
    pub rounds: u32,
    /// Whether the other server is asked as well.
    pub has_peer: bool,
}

/// Runs `load` and tells what came of it, whatever that is.
pub async fn run(load: &Load, pace: Pace) -> Outcome {
    let arguments = arguments(load, pace);
    let began = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut rounds = Vec::new();
    let within = within(load, pace);
    let failure = measure(&arguments, within, &mut rounds).await.err().map(|failure| failure.to_string());
    Outcome {
        name: load.name.to_owned(),
        preset: load.preset.to_owned(),
        measured_on: began.format(&Rfc3339).unwrap_or_default(),
        arguments,
        rounds,
        failure,
    }
}

fn arguments(load: &Load, pace: Pace) -> Vec<String> {
    let mut arguments: Vec<String> = [load.preset, "--own", "--json", "--quiet"].map(str::to_owned).into();
    arguments.extend(load.arguments.iter().map(|argument| (*argument).to_owned()));
    if load.has_peer && pace.has_peer {
        arguments.extend(["--peer", "nchan"].map(str::to_owned));
    }
    let values = [
        ("--rounds", (pace.rounds > 1).then_some(pace.rounds.into())),
        ("--seconds", pace.seconds),
        ("--warm-up", pace.warm_up),
        ("--messages", pace.messages.filter(|_| load.fills_rooms())),
    ];
    for (name, value) in values {
        let Some(value) = value else { continue };
        // clap takes an argument once.
        if let Some(at) = arguments.iter().position(|argument| argument == name) {
            arguments.drain(at..at + 2);
        }
        arguments.extend([name.to_owned(), value.to_string()]);
    }
    arguments
}

/// How long all rounds may take.
fn within(load: &Load, pace: Pace) -> Duration {
    let round = if load.fills_rooms() {
        FILLED_WITHIN
    } else {
        ROUND_WITHIN
    };
    let windows = Duration::from_secs(4 * (pace.seconds.unwrap_or(0) + pace.warm_up.unwrap_or(0)));
    (round + windows) * pace.rounds
}

/// Adds what `loadtest` tells to `rounds`, a line for each, also where a client lacked something; and what it told before it
/// failed.
async fn measure(arguments: &[String], within: Duration, rounds: &mut Vec<Round>) -> Result<()> {
    let mut loadtest = Command::from(command(&service_binary("loadtest")?));
    loadtest.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut loadtest = loadtest.spawn()?;
    let told = loadtest.stdout.take().map(BufReader::new).map(BufReader::lines);
    let mut told = told.ok_or_else(|| Failure::new("loadtest has no output"))?;
    let running = async {
        while let Some(line) = told.next_line().await? {
            rounds.push(serde_json::from_str(&line).explain(|| "loadtest told no figures".to_owned())?);
        }
        ended(&loadtest.wait_with_output().await?)
    };
    let ended = timeout(within, running).await;
    ended.map_err(|_| Failure::new(format!("not done within {} s", within.as_secs())))?
}

/// Whether it came to its end, rightly or not.
fn ended(output: &Output) -> Result<()> {
    if matches!(output.status.code(), Some(0 | 1)) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or("it said nothing");
    Err(Failure::new(format!("{last} ({})", output.status)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;
    use crate::bench::LOADS;

    const FULL: Pace = Pace {
        seconds: None,
        warm_up: None,
        messages: None,
        rounds: 1,
        has_peer: true,
    };

    fn told(name: &str, pace: Pace) -> String {
        let load = LOADS.iter().find(|load| load.name == name).unwrap();
        arguments(load, pace).join(" ")
    }

    #[test]
    fn a_load_is_told_to_loadtest_with_what_differs() {
        let short = Pace {
            seconds: Some(1),
            messages: Some(200),
            rounds: 3,
            has_peer: false,
            ..FULL
        };
        assert_eq!(told("hot-10", FULL), "hot --own --json --quiet --streams 10 --peer nchan");
        assert_eq!(told("hot-10", short), "hot --own --json --quiet --streams 10 --rounds 3 --seconds 1");
        let history = "history-hot --own --json --quiet --rooms 1 --rounds 3 --seconds 1 --messages 200";
        assert_eq!(told("history-hot", short), history);
    }

    #[test]
    fn who_lost_something_has_come_to_an_end_and_who_failed_says_why() {
        let output = |code: i32, said: &str| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: Vec::new(),
            stderr: said.into(),
        };
        assert!(ended(&output(1, "")).is_ok());
        let failure = ended(&output(2, "first\nloadtest: no Redis\n")).unwrap_err().to_string();
        assert_eq!(failure, "loadtest: no Redis (exit status: 2)");
    }
}
