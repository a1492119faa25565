//! The result of a run as a line of JSON to keep, and the table for guarantees.md that is printed from such lines.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::{Explain as _, Result};

/// Headings of the table.
const HEADINGS: &str = "| fault | store | trials | acknowledged | lost | doubled | reordered | unknown | \
                        silence p50 / p99 | verdict |\n|---|---|---|---|---|---|---|---|---|---|";

/// Sentences shown of a run that broke promises; all of them are in its line and in the evidence it leaves.
const SHOWN: usize = 3;

/// One run of one fault.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The day, by UTC: `2026-11-26`.
    pub date: String,
    /// The fault's code.
    pub code: String,
    /// What it does, in a few words.
    pub title: String,
    /// Which back end.
    pub store: String,
    /// What everything random followed from.
    pub seed: u64,
    /// How often the fault was injected.
    pub trials: usize,
    /// How often it must be injected for the full matrix. Rows of earlier versions call it `demanded`.
    #[serde(alias = "demanded")]
    pub trials_required: usize,
    /// Messages answered with 204.
    pub acknowledged: usize,
    /// Of these, those not in history.
    pub lost: usize,
    /// Messages that are there more than once, or although they were refused.
    pub doubled: usize,
    /// Messages at the wrong position.
    pub reordered: usize,
    /// Tries after which the client could not know the outcome.
    pub unknown: u64,
    /// Longest silence of any room after an injection: half of them, and all but one in a hundred, were shorter.
    #[serde(alias = "takeover")]
    pub silence: Option<(Duration, Duration)>,
    /// All broken promises, as sentences.
    pub violations: Vec<String>,
    /// Further facts.
    pub notes: Vec<String>,
    /// Whether the run had to lose something, and did.
    pub is_control: bool,
}

impl Row {
    /// Adds a violation if a measured time is over `at_most`, or is missing.
    pub fn demand(&mut self, what: &str, measured: Option<Duration>, at_most: Duration) {
        match measured {
            Some(time) if time <= at_most => {}
            Some(time) => self.violations.push(format!("Demand: {what} is {time:?}, over {at_most:?}")),
            None => self.violations.push(format!("Demand: {what} could not be measured")),
        }
    }

    /// Inverts the verdict of a run that must lose something: the run passes if the oracle found the loss.
    pub fn invert(&mut self) {
        let found = self.violations.len();
        self.violations.clear();
        if self.lost == 0 {
            self.violations.push("nothing was lost, or the oracle did not find it".to_owned());
        }
        self.notes.push(format!("{found} violations were found, as they must be"));
        self.is_control = true;
    }

    /// The row of the table.
    fn line(&self) -> String {
        let silence = self.silence.map_or_else(
            || "–".to_owned(),
            |(p50, p99)| format!("{:.1} s / {:.1} s", p50.as_secs_f64(), p99.as_secs_f64()),
        );
        let verdict = match self.violations.len() {
            0 if self.is_control => "loss found".to_owned(),
            0 => "kept".to_owned(),
            count => format!("**{count} broken**"),
        };
        let trials = if self.trials < self.trials_required {
            format!("{} of {}", self.trials, self.trials_required)
        } else {
            self.trials.to_string()
        };
        format!(
            "| {} {} | {} | {trials} | {} | {} | {} | {} | {} | {silence} | {verdict} |",
            self.code, self.title, self.store, self.acknowledged, self.lost, self.doubled, self.reordered, self.unknown
        )
    }
}

/// Parses the lines that runs left behind, and sorts the rows by `order`, the codes of the matrix. Of several runs of a
/// fault on a back end the last one counts.
pub fn parse(lines: &str, order: &[&str]) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let row: Row = serde_json::from_str(line).explain(|| format!("not a row of the matrix: {line}"))?;
        rows.retain(|earlier| (&earlier.code, &earlier.store) != (&row.code, &row.store));
        rows.push(row);
    }
    let position = |row: &Row| order.iter().position(|code| row.code == *code);
    // SQLite comes before Postgres.
    rows.sort_by_key(|row| (std::cmp::Reverse(row.store.clone()), position(row)));
    Ok(rows)
}

/// The table, with the days on which its rows were measured, and the broken promises as a list below it.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let days = (rows.iter().map(|row| &row.date).min(), rows.iter().map(|row| &row.date).max());
    let mut table = match days {
        (Some(first), Some(last)) if first == last => format!("`make soak`, {first}:\n\n"),
        (Some(first), Some(last)) => format!("`make soak`, {first} to {last}:\n\n"),
        _ => String::new(),
    };
    table.push_str(HEADINGS);
    for row in rows {
        // Writing to a string does not fail.
        let _ = write!(table, "\n{}", row.line());
    }
    table.push('\n');
    for row in rows {
        for violation in row.violations.iter().take(SHOWN) {
            let _ = write!(table, "\n- {} on {}: {violation}", row.code, row.store);
        }
    }
    table
}

/// The lines of a page between which its table is.
const PAGE_MARKS: (&str, &str) = ("<!-- soak table: begin -->\n", "<!-- soak table: end -->");

/// `page` with `table` in place of the table that it has; `None` if it has no lines for one.
#[must_use]
pub fn replace_table(page: &str, table: &str) -> Option<String> {
    let (begin, end) = PAGE_MARKS;
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}{table}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(code: &str, store: &str, trials: usize, date: &str) -> Row {
        Row {
            date: date.to_owned(),
            code: code.to_owned(),
            title: "worker kill -9".to_owned(),
            store: store.to_owned(),
            seed: 1,
            trials,
            trials_required: 200,
            acknowledged: 5,
            lost: 0,
            doubled: 0,
            reordered: 0,
            unknown: 0,
            silence: Some((Duration::from_millis(120), Duration::from_millis(2_180))),
            violations: Vec::new(),
            notes: Vec::new(),
            is_control: false,
        }
    }

    #[test]
    fn table_of_a_page_is_replaced() {
        let page = "# Results\n<!-- soak table: begin -->\nold\n<!-- soak table: end -->\nrest\n";
        let replaced = "# Results\n<!-- soak table: begin -->\nnew\n<!-- soak table: end -->\nrest\n";
        assert_eq!(replace_table(page, "new").as_deref(), Some(replaced));
        assert_eq!(replace_table("no lines for it", "new"), None);
        let guarantees = include_str!("../../docs/guarantees.md");
        assert!(replace_table(guarantees, "new").is_some_and(|page| page.contains("-->\nnew\n<!--")));
    }

    #[test]
    fn table_shows_last_runs_and_trials_short_of_the_required() {
        let mut broken = row("F2", "SQLite", 200, "2026-11-27");
        broken.violations.push("Kept: gone".to_owned());
        let runs = [
            row("F1", "Postgres", 200, "2026-11-26"),
            row("F1", "SQLite", 3, "2026-11-26"),
            broken,
            row("F1", "SQLite", 100, "2026-11-26"),
        ];
        let lines: Vec<String> = runs.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
        let rows = parse(&lines.join("\n"), &["F1", "F2"]).unwrap();
        let table = table(&rows);
        let table: Vec<&str> = table.lines().collect();
        assert_eq!(table[0], "`make soak`, 2026-11-26 to 2026-11-27:");
        assert_eq!(
            table[4..],
            [
                "| F1 worker kill -9 | SQLite | 100 of 200 | 5 | 0 | 0 | 0 | 0 | 0.1 s / 2.2 s | kept |",
                "| F2 worker kill -9 | SQLite | 200 | 5 | 0 | 0 | 0 | 0 | 0.1 s / 2.2 s | **1 broken** |",
                "| F1 worker kill -9 | Postgres | 200 | 5 | 0 | 0 | 0 | 0 | 0.1 s / 2.2 s | kept |",
                "",
                "- F2 on SQLite: Kept: gone",
            ]
        );
    }

    #[test]
    fn rows_of_earlier_runs_are_read() {
        let row = row("F1", "SQLite", 3, "2026-11-26");
        let earlier = serde_json::to_string(&row).unwrap().replace("\"silence\":", "\"takeover\":");
        assert_eq!(parse(&earlier, &[]).unwrap()[0].silence, row.silence);
    }

    #[test]
    fn line_that_is_not_a_row_is_refused_and_shown() {
        let failure = parse("\n{\"code\":\"F1\"}\n", &[]).err().map(|failure| failure.to_string());
        assert!(failure.is_some_and(|text| text.starts_with(r#"not a row of the matrix: {"code":"F1"}"#)));
    }

    #[test]
    fn measured_times_over_a_demand_and_missing_ones_are_violations() {
        let mut row = row("F1", "SQLite", 1, "2026-11-26");
        let second = Duration::from_secs(1);
        row.demand("the wait", Some(second), second);
        assert_eq!(row.violations, [""; 0]);
        row.demand("the wait", Some(2 * second), second);
        row.demand("the wait", None, second);
        assert_eq!(
            row.violations,
            [
                "Demand: the wait is 2s, over 1s",
                "Demand: the wait could not be measured"
            ]
        );
    }

    #[test]
    fn control_run_passes_only_if_a_loss_was_found() {
        let mut blind = row("F16", "SQLite", 1, "2026-11-26");
        blind.violations.push("Dense: a hole".to_owned());
        blind.invert();
        assert_eq!(blind.violations, ["nothing was lost, or the oracle did not find it"]);
        let mut seeing = row("F16", "SQLite", 1, "2026-11-26");
        seeing.lost = 3;
        seeing.violations.push("Kept: gone".to_owned());
        seeing.invert();
        assert!(seeing.violations.is_empty() && seeing.is_control);
    }
}
