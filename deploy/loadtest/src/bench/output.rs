//! Writes a report: `figures.json`, and the images that are drawn from it.

use std::fs;
use std::path::Path;

use rig::{Explain as _, Result};
use serde::Serialize;

use super::charts;
use super::report::Report;
use super::svg::draw;
use super::thresholds::{ThresholdResult, evaluate};

/// The file: what was measured, and the thresholds evaluated for readers that are not this program.
#[derive(Serialize)]
struct ReportFile<'a> {
    #[serde(rename = "demands")]
    thresholds: Vec<ThresholdResult>,
    #[serde(flatten)]
    report: &'a Report,
}

/// Writes `report` to `file`.
pub fn save(report: &Report, file: &Path) -> Result<()> {
    let saved = ReportFile {
        thresholds: evaluate(report),
        report,
    };
    let text = serde_json::to_string_pretty(&saved)?;
    fs::write(file, text + "\n").explain(|| format!("cannot write {}", file.display()))
}

/// The images that have points, by the names of their files.
pub fn images(report: &Report) -> Result<Vec<(&'static str, String)>> {
    let images = [
        ("streams.svg", charts::by_streams(report)),
        ("batches.svg", charts::by_batch(report)),
    ];
    let drawn = images.map(|(name, charts)| Ok(draw(&charts)?.map(|image| (name, image))));
    drawn.into_iter().filter_map(Result::transpose).collect()
}
