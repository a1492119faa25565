//! The figures of one run; their JSON is read by `bench` and by scripts.

use std::collections::BTreeMap;

use rig::Percentiles;
use serde::{Deserialize, Serialize};

use crate::results::history_reads::HistoryReads;
use crate::results::process_cost::{ProcessMemory, ratio};
use crate::results::process_usage::OWN_NAME;
use crate::results::send_queues::StalledStreams;
use crate::results::sync_times::SyncTimes;
use crate::results::typing::TypingEffect;
use crate::results::window::Window;

/// Everything measured in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// `roomcast` or `nchan`, and the kind of keys of the posts if it is not the usual one.
    pub server: String,
    /// Streams that were held open.
    pub streams: usize,
    /// Rooms that the streams were spread over.
    pub rooms: usize,
    /// Rooms that each stream followed: more than 1 where it was the stream of all rooms of a user.
    #[serde(default = "one")]
    pub rooms_each: usize,
    /// Characters of a message.
    pub text: usize,
    /// Messages that each room held before the load, if history was read; else 0.
    pub messages: u64,
    /// Posts a second that the plan asks for, if it has a rate.
    pub asked_per_s: Option<f64>,
    /// Seconds until all streams were open.
    pub opened_s: f64,
    /// The windows that were measured under load.
    pub windows: Vec<Window>,
    /// Memory of the server's processes, and of this one.
    pub memory: Vec<ProcessMemory>,
    /// The memory of a stream was to be measured, and the memory of the servers did not become steady in time.
    #[serde(alias = "is_restless")]
    pub is_memory_unsteady: bool,
    /// Seconds from the last response until every stream that reads had every message; `None` if one never had.
    pub caught_up_s: Option<f64>,
    /// From reconnecting until a stream had caught up, in milliseconds, if all streams were disconnected.
    pub catch_up_ms: Option<Percentiles>,
    /// Streams that did not read in the last window, where the server's send queues can be seen.
    pub stalled: Option<StalledStreams>,
    /// Reads of history in SQL while streams caught up, if the gateways log their statements.
    pub reads: Option<HistoryReads>,
    /// How long users took to catch up with all their rooms, if the load was that.
    #[serde(default)]
    pub sync: Option<SyncTimes>,
    /// The effect of typing on messages, if users sent typing calls.
    #[serde(default)]
    pub typing: Option<TypingEffect>,
    /// Streams that read and did not catch up.
    pub behind: usize,
    /// Entries of the rooms' logs, nearly all of them messages, that never came although later ones did, over all streams.
    pub missing: u64,
    /// Entries that came again.
    pub doubled: u64,
    /// Entries that came after later ones.
    pub misplaced: u64,
    /// Streams that the server reset.
    pub resets: u64,
    /// Streams that the server ended and that were opened again.
    pub returns: u64,
    /// Requests that were refused, by status code.
    pub refused: BTreeMap<u16, u64>,
    /// Requests without a complete response.
    pub broken: u64,
}

/// Each stream of earlier runs was one of a room.
fn one() -> usize {
    1
}

impl Figures {
    /// True if every client that reads saw every message, once and in order.
    #[must_use]
    pub fn is_correct(&self) -> bool {
        self.violations() == 0
    }

    /// Entries that were missing, came again or came out of order, and streams that were reset or never caught up.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.missing + self.doubled + self.misplaced + self.resets + self.behind as u64
    }

    /// True if the load was the one that was planned, so that its figures mean something: no order was violated, every
    /// request was answered, and a rate was kept without refusals, that of typing as well. Posts sent as fast as they are answered may be
    /// refused.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let is_kept = |per_s| self.refused.is_empty() && self.windows.iter().all(|window| window.keeps_rate(per_s));
        let is_typed =
            |effect: &TypingEffect| self.windows.iter().all(|window| window.keeps_typing_rate(effect.asked_per_s));
        self.is_correct()
            && self.broken == 0
            && self.asked_per_s.is_none_or(is_kept)
            && self.typing.as_ref().is_none_or(is_typed)
    }

    /// Deliveries a second in the first window.
    #[must_use]
    pub fn deliveries_per_s(&self) -> Option<f64> {
        self.windows.first().map(|window| window.deliveries_per_s)
    }

    /// Requests a second in the first window.
    #[must_use]
    pub fn requests_per_s(&self) -> Option<f64> {
        self.windows.first().map(|window| window.requests_per_s)
    }

    /// Times from post to event in the first window.
    #[must_use]
    pub fn post_to_event_ms(&self) -> Option<Percentiles> {
        self.windows.first()?.post_to_event_ms
    }

    /// Processor time of the first server, in seconds for a million deliveries of the first window.
    #[must_use]
    pub fn cpu_s_per_million(&self) -> Option<f64> {
        let server = self.windows.first()?.processes.iter().find(|cpu| cpu.name != OWN_NAME)?;
        server.cpu_s_per_million_deliveries
    }

    /// Processor time of this tool in the first window, in seconds for each second.
    #[must_use]
    pub fn tool_cores(&self) -> Option<f64> {
        let window = self.windows.first()?;
        ratio(window.processes.iter().find(|cpu| cpu.name == OWN_NAME)?.cpu_s, window.seconds)
    }

    /// Share of the first window in which the busiest thread of this tool was busy.
    #[must_use]
    pub fn tool_busy(&self) -> Option<f64> {
        self.windows.first().map(|window| window.reader_busy.max(window.caller_busy))
    }

    /// Memory of a stream in the first server.
    #[must_use]
    pub fn kib_per_stream(&self) -> Option<f64> {
        self.memory.iter().find(|memory| memory.name != OWN_NAME)?.kib_per_stream
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::results::process_usage::ProcessUsage;
    use crate::results::typing::TypingCalls;

    fn usage(name: &str, cpu_s: f64, resident_kib: u64) -> ProcessUsage {
        let name = name.to_owned();
        ProcessUsage {
            name,
            cpu_s,
            resident_kib,
        }
    }

    /// Figures of a run without violations.
    pub(crate) fn example() -> Figures {
        let before = [usage("gateway-1", 1.0, 1_000), usage("gone", 1.0, 1)];
        let after = [usage("gateway-1", 3.0, 3_000)];
        let mut window = Window::new(2.0, 4_000_000, 1_000, &before, &after);
        window.post_to_event_ms = Some(Percentiles {
            samples: 3,
            p50: 1.0,
            p90: 2.0,
            p99: 3.0,
            p999: 4.0,
            max: 5.0,
        });
        Figures {
            server: "roomcast".to_owned(),
            streams: 1_000,
            rooms: 1,
            rooms_each: 1,
            text: 100,
            messages: 0,
            asked_per_s: None,
            opened_s: 0.5,
            windows: vec![window],
            memory: ProcessMemory::of(&before, &after, &after, Some(1_000)),
            is_memory_unsteady: false,
            caught_up_s: Some(0.25),
            catch_up_ms: None,
            stalled: None,
            reads: None,
            sync: None,
            typing: None,
            behind: 0,
            missing: 0,
            doubled: 0,
            misplaced: 0,
            resets: 0,
            returns: 0,
            refused: BTreeMap::from([(503, 2)]),
            broken: 0,
        }
    }

    #[test]
    fn json_has_the_names_that_scripts_read() {
        let figures = serde_json::to_value(example()).unwrap();
        let window = &figures["windows"][0];
        assert_eq!(window["deliveries_per_s"], 2_000_000.0);
        assert_eq!(window["requests_per_s"], 500.0);
        assert_eq!(window["post_to_event_ms"]["p999"], 4.0);
        assert_eq!(window["answer_ms"], Value::Null);
        let cpu = json!([{
            "name": "gateway-1", "cpu_s": 2.0, "cpu_s_per_million_deliveries": 0.5, "cpu_us_per_request": 2_000.0,
            "resident_kib": 3_000
        }]);
        assert_eq!(window["processes"], cpu);
        let memory = json!([{
            "name": "gateway-1", "before_kib": 1_000, "open_kib": 3_000, "after_kib": 3_000, "kib_per_stream": 2.0
        }]);
        assert_eq!(figures["memory"], memory);
        assert_eq!(figures["refused"], json!({"503": 2}));
        assert!(!serde_json::to_string(&figures).unwrap().contains('\n'));
    }

    #[test]
    fn figures_of_earlier_runs_are_read() {
        let mut earlier = serde_json::to_value(example()).unwrap();
        for added in ["rooms_each", "sync", "typing"] {
            assert!(earlier.as_object_mut().unwrap().remove(added).is_some(), "{added}");
        }
        for added in ["statements_per_s", "typing_events", "typing"] {
            assert!(earlier["windows"][0].as_object_mut().unwrap().remove(added).is_some(), "{added}");
        }
        assert_eq!(serde_json::from_value::<Figures>(earlier).unwrap(), example());
    }

    #[test]
    fn one_violation_makes_figures_incorrect() {
        assert!(example().is_correct());
        let changes: [fn(&mut Figures); 5] = [
            |figures| figures.missing = 1,
            |figures| figures.doubled = 1,
            |figures| figures.misplaced = 1,
            |figures| figures.resets = 1,
            |figures| figures.behind = 1,
        ];
        for violate in changes {
            let mut figures = example();
            violate(&mut figures);
            assert!(!figures.is_correct());
        }
    }

    #[test]
    fn missed_rates_and_missing_responses_make_figures_invalid() {
        let valid = |change: fn(&mut Figures)| {
            let mut figures = example();
            change(&mut figures);
            figures.is_valid()
        };
        // Two seconds with 1,000 requests, and two refusals.
        assert!(valid(|_| {}));
        assert!(!valid(|figures| figures.asked_per_s = Some(505.0)));
        assert!(valid(|figures| (figures.asked_per_s, figures.refused) = (Some(505.0), BTreeMap::new())));
        assert!(!valid(|figures| (figures.asked_per_s, figures.refused) = (Some(515.0), BTreeMap::new())));
        assert!(!valid(|figures| figures.broken = 1));
        assert!(!valid(|figures| figures.behind = 1));
    }

    #[test]
    fn too_few_calls_of_typing_make_figures_invalid() {
        let valid = |succeeded: u64| {
            let mut figures = example();
            let times = figures.post_to_event_ms().unwrap();
            figures.typing = Some(TypingEffect {
                asked_per_s: 500.0,
                without_ms: times,
                with_ms: times,
            });
            figures.windows.push(Window {
                typing: Some(TypingCalls {
                    statuses: BTreeMap::from([(204, succeeded), (503, 1_000 - succeeded)]),
                    broken: 0,
                    answer_ms: None,
                }),
                ..figures.windows[0].clone()
            });
            figures.is_valid()
        };
        // Two seconds with 1,000 calls.
        assert_eq!([1_000, 990, 900].map(valid), [true, true, false]);
    }

    #[test]
    fn without_streams_or_deliveries_there_is_no_cost_for_each() {
        let usages = [usage("gateway-1", 1.0, 1_000)];
        let window = Window::new(1.0, 0, 0, &usages, &usages);
        assert_eq!(window.processes[0].cpu_s_per_million_deliveries, None);
        let per_stream =
            |before: &[ProcessUsage], streams| ProcessMemory::of(before, &usages, &usages, streams)[0].kib_per_stream;
        let larger = [usage("gateway-1", 1.0, 2_000)];
        assert_eq!(
            [
                per_stream(&usages, Some(0)),
                per_stream(&usages, None),
                per_stream(&larger, Some(10))
            ],
            [None; 3]
        );
    }
}
