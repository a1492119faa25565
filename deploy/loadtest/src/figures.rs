//! What a run came to.

use std::collections::BTreeMap;

use rig::Percentiles;
use serde::{Deserialize, Serialize};

use crate::queues::Stalled;
use crate::reads::Reads;
use crate::watch::{OWN, Usage};

/// A rate is kept when what was answered differs from it by no more than this part, or by so many requests.
const RATE_OFF: f64 = 0.02;
const REQUESTS_OFF: f64 = 2.0;

/// Everything measured in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// `roomcast` or `nchan`.
    pub server: String,
    /// Streams that were held.
    pub streams: usize,
    /// Rooms they were spread over.
    pub rooms: usize,
    /// Characters of a message.
    pub text: usize,
    /// Messages that each room held before anything was measured, if history was read.
    pub messages: u64,
    /// Posts a second that were asked for, if they were to come at a rate.
    pub asked_per_s: Option<f64>,
    /// Seconds until all streams were open.
    pub opened_s: f64,
    /// What was measured under load.
    pub windows: Vec<Window>,
    /// Memory of the server's processes, and of this one.
    pub memory: Vec<Memory>,
    /// Streams were to be weighed, and the servers did not come to rest in time.
    pub is_restless: bool,
    /// Seconds from the last answer until every stream that reads had every message; `None` if they never had.
    pub caught_up_s: Option<f64>,
    /// From being let back until a client had caught up, in milliseconds, if all had been cut.
    pub catch_up_ms: Option<Percentiles>,
    /// Streams that read nothing in the last window, where the server's side of them can be seen.
    pub stalled: Option<Stalled>,
    /// What the gateways read from SQL meanwhile, if they tell.
    pub reads: Option<Reads>,
    /// Streams that read and did not catch up.
    pub behind: usize,
    /// Messages that never came although later ones did, over all streams.
    pub missing: u64,
    /// Messages that came again.
    pub doubled: u64,
    /// Messages that came after later ones.
    pub misplaced: u64,
    /// Streams that were told to begin anew.
    pub resets: u64,
    /// Streams that the server ended and that came back.
    pub returns: u64,
    /// Requests that were refused, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Requests that were not answered, or by less than was asked for.
    pub broken: u64,
}

/// A time under load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// How long it was.
    pub seconds: f64,
    /// Percent of the streams that read nothing.
    pub stalled_percent: usize,
    /// Messages that came, over all streams.
    pub deliveries: u64,
    /// The same a second.
    pub deliveries_per_s: f64,
    /// Requests that were answered as they should be: posts, or pages of history.
    pub requests: u64,
    /// The same a second.
    pub requests_per_s: f64,
    /// From post to event, in milliseconds.
    pub post_to_event_ms: Option<Percentiles>,
    /// From request to answer, in milliseconds.
    pub answer_ms: Option<Percentiles>,
    /// What each process took.
    pub processes: Vec<Cpu>,
    /// Share of the time in which the busiest reading thread of this tool was at work: near 1 it holds the figures down. On a
    /// machine whose cores are all taken it may get less than it needs long before.
    pub reader_busy: f64,
    /// The same of the thread that posts.
    pub caller_busy: f64,
}

/// What a process took in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// What it is called.
    pub name: String,
    /// Seconds on all cores.
    pub cpu_s: f64,
    /// Seconds for a million deliveries, if there were any.
    pub cpu_s_per_million_deliveries: Option<f64>,
    /// Microseconds for a request, if there were any.
    pub cpu_us_per_request: Option<f64>,
    /// Resident memory at the end of the window, under load.
    pub resident_kib: u64,
}

/// Memory of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// What it is called.
    pub name: String,
    /// Resident before the first stream was opened.
    pub before_kib: u64,
    /// Resident when all streams were open and nothing had been posted.
    pub open_kib: u64,
    /// Resident at the end of the load.
    pub after_kib: u64,
    /// What each further stream added, where it was weighed and something was added.
    pub kib_per_stream: Option<f64>,
}

impl Figures {
    /// True if every client that reads saw every message, once and in order.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.wrongs() == 0
    }

    /// Messages that were missing, came again or out of order, and streams that had to begin anew or never caught up.
    #[must_use]
    pub fn wrongs(&self) -> u64 {
        self.missing + self.doubled + self.misplaced + self.resets + self.behind as u64
    }

    /// True if the load was what it was meant to be, so that its figures say something: clients are right, every request
    /// was answered, and a rate was kept, without refusals. (What is posted as fast as it is answered may be refused.)
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let is_kept = |per_s| self.refused.is_empty() && self.windows.iter().all(|window| window.keeps(per_s));
        self.is_right() && self.broken == 0 && self.asked_per_s.is_none_or(is_kept)
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

    /// From post to event in the first window.
    #[must_use]
    pub fn post_to_event_ms(&self) -> Option<Percentiles> {
        self.windows.first()?.post_to_event_ms
    }

    /// Processor time of the first server, in seconds for a million deliveries of the first window.
    #[must_use]
    pub fn cpu_s_per_million(&self) -> Option<f64> {
        let server = self.windows.first()?.processes.iter().find(|cpu| cpu.name != OWN)?;
        server.cpu_s_per_million_deliveries
    }

    /// Processor time of this tool in the first window, in seconds a second.
    #[must_use]
    pub fn tool_cores(&self) -> Option<f64> {
        let window = self.windows.first()?;
        ratio(window.processes.iter().find(|cpu| cpu.name == OWN)?.cpu_s, window.seconds)
    }

    /// Share of the first window in which the busiest thread of this tool was at work.
    #[must_use]
    pub fn tool_busy(&self) -> Option<f64> {
        self.windows.first().map(|window| window.reader_busy.max(window.caller_busy))
    }

    /// Memory that each further stream took of the first server.
    #[must_use]
    pub fn kib_per_stream(&self) -> Option<f64> {
        self.memory.iter().find(|memory| memory.name != OWN)?.kib_per_stream
    }
}

impl Window {
    /// True if so many requests a second were answered; a few may fall to either side of the window.
    fn keeps(&self, per_s: f64) -> bool {
        let asked = per_s * self.seconds;
        (as_f64(self.requests) - asked).abs() <= (asked * RATE_OFF).max(REQUESTS_OFF)
    }

    /// 99 of 100 messages took at most so many milliseconds from their post to their event.
    #[must_use]
    pub fn p99_ms(&self) -> Option<f64> {
        self.post_to_event_ms.map(|times| times.p99)
    }

    pub(crate) fn new(seconds: f64, deliveries: u64, requests: u64, before: &[Usage], after: &[Usage]) -> Self {
        let cpu = |(before, after): (&Usage, &Usage)| {
            let cpu_s = after.cpu_s - before.cpu_s;
            Cpu {
                name: after.name.clone(),
                cpu_s,
                cpu_s_per_million_deliveries: ratio(cpu_s * 1e6, as_f64(deliveries)),
                cpu_us_per_request: ratio(cpu_s * 1e6, as_f64(requests)),
                resident_kib: after.resident_kib,
            }
        };
        Self {
            seconds,
            stalled_percent: 0,
            deliveries,
            deliveries_per_s: ratio(as_f64(deliveries), seconds).unwrap_or(0.0),
            requests,
            requests_per_s: ratio(as_f64(requests), seconds).unwrap_or(0.0),
            post_to_event_ms: None,
            answer_ms: None,
            processes: pairs(before, after).map(cpu).collect(),
            reader_busy: 0.0,
            caller_busy: 0.0,
        }
    }
}

impl Memory {
    /// Between `before` and `open` so many streams were opened, which are weighed by the difference.
    pub(crate) fn of(before: &[Usage], open: &[Usage], after: &[Usage], weighed: Option<usize>) -> Vec<Self> {
        let memory = |(before, open): (&Usage, &Usage)| Self {
            name: open.name.clone(),
            before_kib: before.resident_kib,
            open_kib: open.resident_kib,
            after_kib: after.iter().find(|usage| usage.name == open.name).map_or(0, |usage| usage.resident_kib),
            kib_per_stream: weighed
                .zip(open.resident_kib.checked_sub(before.resident_kib))
                .and_then(|(streams, kib)| ratio(as_f64(kib), as_f64(streams as u64))),
        };
        pairs(before, open).map(memory).collect()
    }
}

/// The usages of the same process.
fn pairs<'a>(before: &'a [Usage], after: &'a [Usage]) -> impl Iterator<Item = (&'a Usage, &'a Usage)> {
    after
        .iter()
        .filter_map(|after| Some((before.iter().find(|before| before.name == after.name)?, after)))
}

/// `None` of nothing.
fn ratio(of: f64, to: f64) -> Option<f64> {
    (to > 0.0).then(|| of / to)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn usage(name: &str, cpu_s: f64, resident_kib: u64) -> Usage {
        let name = name.to_owned();
        Usage {
            name,
            cpu_s,
            resident_kib,
        }
    }

    /// Figures of a run in which nothing went wrong.
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
            text: 100,
            messages: 0,
            asked_per_s: None,
            opened_s: 0.5,
            windows: vec![window],
            memory: Memory::of(&before, &after, &after, Some(1_000)),
            is_restless: false,
            caught_up_s: Some(0.25),
            catch_up_ms: None,
            stalled: None,
            reads: None,
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
    fn json_has_what_scripts_read() {
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
    fn one_client_that_lacks_something_is_enough() {
        assert!(example().is_right());
        let wrongs: [fn(&mut Figures); 5] = [
            |figures| figures.missing = 1,
            |figures| figures.doubled = 1,
            |figures| figures.misplaced = 1,
            |figures| figures.resets = 1,
            |figures| figures.behind = 1,
        ];
        for wrong in wrongs {
            let mut figures = example();
            wrong(&mut figures);
            assert!(!figures.is_right());
        }
    }

    #[test]
    fn a_rate_that_was_not_kept_or_an_answer_that_lacks_makes_figures_unsound() {
        let sound = |change: fn(&mut Figures)| {
            let mut figures = example();
            change(&mut figures);
            figures.is_sound()
        };
        // Two seconds with 1,000 requests, and two refusals.
        assert!(sound(|_| {}));
        assert!(!sound(|figures| figures.asked_per_s = Some(505.0)));
        assert!(sound(|figures| (figures.asked_per_s, figures.refused) = (Some(505.0), BTreeMap::new())));
        assert!(!sound(|figures| (figures.asked_per_s, figures.refused) = (Some(515.0), BTreeMap::new())));
        assert!(!sound(|figures| figures.broken = 1));
        assert!(!sound(|figures| figures.behind = 1));
    }

    #[test]
    fn of_no_streams_and_no_deliveries_nothing_is_told() {
        let usages = [usage("gateway-1", 1.0, 1_000)];
        let window = Window::new(1.0, 0, 0, &usages, &usages);
        assert_eq!(window.processes[0].cpu_s_per_million_deliveries, None);
        let weigh = |before: &[Usage], weighed| Memory::of(before, &usages, &usages, weighed)[0].kib_per_stream;
        let larger = [usage("gateway-1", 1.0, 2_000)];
        assert_eq!([weigh(&usages, Some(0)), weigh(&usages, None), weigh(&larger, Some(10))], [None; 3]);
    }
}
