//! The rows of typing: the typing calls of a window, and their effect on messages.

use super::rows::{Rows, grouped, percentiles};
use crate::results::typing::{TypingCalls, TypingEffect};

impl TypingEffect {
    pub(super) fn rows(&self, rows: &mut Rows) {
        for (what, without, with, ratio) in [
            ("p50 of both (ms)", self.without_ms.p50, self.with_ms.p50, self.p50_ratio()),
            ("p99 of both (ms)", self.without_ms.p99, self.with_ms.p99, self.p99_ratio()),
        ] {
            let ratio = ratio.map_or_else(String::new, |ratio| format!(": {ratio:.2} ×"));
            rows.add(what, format!("{without:.2} without typing, {with:.2} with it{ratio}"));
        }
    }
}

impl TypingCalls {
    pub(super) fn rows(&self, rows: &mut Rows) {
        let statuses = self.statuses.iter().map(|(status, count)| format!("{} times {status}", grouped(*count)));
        let broken = (self.broken > 0).then(|| format!("{} without a complete response", grouped(self.broken)));
        let calls: Vec<String> = statuses.chain(broken).collect();
        rows.add("— typing", format!("every user: {}", calls.join(", ")));
        if let Some(times) = &self.answer_ms {
            rows.add("typing call (ms)", percentiles(times));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rig::Percentiles;

    use super::*;
    use crate::results::figures::tests::example;
    use crate::results::window::Window;

    #[test]
    fn a_table_shows_what_typing_does_to_messages() {
        let mut figures = example();
        let without_ms = figures.post_to_event_ms().unwrap();
        let with_ms = Percentiles { p99: 3.3, ..without_ms };
        figures.windows.push(Window {
            typing_events: 20_000,
            typing: Some(TypingCalls {
                statuses: BTreeMap::from([(204, 990), (429, 10)]),
                broken: 1,
                answer_ms: None,
            }),
            ..figures.windows[0].clone()
        });
        figures.typing = Some(TypingEffect {
            asked_per_s: 500.0,
            without_ms,
            with_ms,
        });
        let table = figures.table();
        for line in [
            "— quiet              nobody types",
            "— typing             every user: 990 times 204, 10 times 429, 1 without a complete response",
            "typing events        20,000",
            "p50 of both (ms)     1.00 without typing, 1.00 with it: 1.00 ×",
            "p99 of both (ms)     3.00 without typing, 3.30 with it: 1.10 ×",
        ] {
            assert!(table.lines().any(|shown| shown == line), "{line:?} is not in\n{table}");
        }
    }
}
