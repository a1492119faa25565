//! Draws line charts as SVG, without fonts or libraries of the system.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use rig::{Failure, Result};

use crate::results::table::grouped;

/// Size of one chart, in pixels.
const SIZE: (u32, u32) = (560, 380);
/// Colours that people with colour vision deficiency can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0)];
/// Factor by which the axes extend beyond the outermost points.
const MARGIN: f64 = 1.3;
/// Powers of ten that all figures lie in.
const DECADES: Range<i32> = -3..9;
const FONT: &str = "sans-serif";

/// Lines over two logarithmic axes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    /// Title above the chart.
    pub(super) title: &'static str,
    /// Label of the horizontal axis.
    pub(super) across: &'static str,
    /// Label of the vertical axis.
    pub(super) up: &'static str,
    /// The lines, at most as many as there are colours.
    pub(super) lines: Vec<Line>,
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Name in the legend.
    pub(super) name: &'static str,
    /// Points from left to right, with positive coordinates.
    pub(super) points: Vec<(f64, f64)>,
}

/// Draws the charts that have points, side by side; `None` if none has.
pub(super) fn draw(charts: &[Chart]) -> Result<Option<String>> {
    let shown: Vec<_> = charts.iter().filter_map(|chart| Some((chart, chart.ranges()?))).collect();
    if shown.is_empty() {
        return Ok(None);
    }
    let mut image = String::new();
    let size = (SIZE.0 * u32::try_from(shown.len())?, SIZE.1);
    let area = SVGBackend::with_string(&mut image, size).into_drawing_area();
    area.fill(&WHITE).map_err(explain)?;
    for (part, (chart, ranges)) in area.split_evenly((1, shown.len())).iter().zip(shown) {
        chart.draw(part, ranges).map_err(explain)?;
    }
    area.present().map_err(explain)?;
    drop(area);
    Ok(Some(image))
}

fn explain(error: impl std::error::Error) -> Failure {
    Failure::new(format!("cannot draw: {error}"))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

impl Chart {
    /// Ranges of the two axes; `None` without points.
    fn ranges(&self) -> Option<(Range<f64>, Range<f64>)> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let across = range(points().map(|(across, _)| *across))?;
        Some((across, range(points().map(|(_, up)| *up))?))
    }

    fn draw(&self, area: &Area<'_>, (across, up): (Range<f64>, Range<f64>)) -> Drawn {
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, (FONT, 18))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(84)
            .build_cartesian_2d(
                across.clone().log_scale().with_key_points(marks(&across, &[1.0, 5.0])),
                up.clone().log_scale().with_key_points(marks(&up, &[1.0, 2.0, 5.0])),
            )?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(215, 215, 215))
            .x_desc(self.across)
            .y_desc(self.up)
            .axis_desc_style((FONT, 14))
            .label_style((FONT, 13))
            .x_label_formatter(&|number| label(*number))
            .y_label_formatter(&|number| label(*number))
            .draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS).filter(|(line, _)| !line.points.is_empty()) {
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)).point_size(3))?
                .label(line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(190, 190, 190))
            .label_font((FONT, 14))
            .draw()
    }
}

/// The range of an axis for these numbers.
fn range(numbers: impl Iterator<Item = f64> + Clone) -> Option<Range<f64>> {
    let smallest = numbers.clone().min_by(f64::total_cmp)?;
    let greatest = numbers.max_by(f64::total_cmp)?;
    (smallest > 0.0 && greatest.is_finite()).then_some(smallest / MARGIN..greatest * MARGIN)
}

/// These multiples of the powers of ten that lie in `range`: the marks of a logarithmic axis.
fn marks(range: &Range<f64>, multiples: &[f64]) -> Vec<f64> {
    let decades = DECADES.flat_map(|decade| multiples.iter().map(move |multiple| multiple * 10_f64.powi(decade)));
    decades.filter(|mark| range.contains(mark)).collect()
}

/// The label of a mark.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers beside axes are positive and small against 2^64"
)]
fn label(number: f64) -> String {
    if number >= 1.0 {
        grouped(number.round() as u64)
    } else {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(lines: Vec<Line>) -> Chart {
        Chart {
            title: "stored & delivered",
            across: "streams",
            up: "deliveries/s",
            lines,
        }
    }

    fn line(name: &'static str, points: &[(f64, f64)]) -> Line {
        Line {
            name,
            points: points.to_vec(),
        }
    }

    #[test]
    fn an_image_is_well_formed_and_names_its_lines() {
        let lines = vec![
            line("Roomcast", &[(10.0, 1e5), (1_000.0, 2e6)]),
            line("Nchan", &[(10.0, 2e5)]),
        ];
        let image = draw(&[chart(lines.clone()), chart(lines)]).unwrap().unwrap();
        let document = roxmltree::Document::parse(&image).unwrap();
        let texts: Vec<&str> = document
            .descendants()
            .filter(roxmltree::Node::is_text)
            .filter_map(|node| node.text())
            .map(str::trim)
            .collect();
        for text in [
            "stored & delivered",
            "streams",
            "deliveries/s",
            "Roomcast",
            "Nchan",
            "1,000",
            "1,000,000",
        ] {
            assert_eq!(texts.iter().filter(|shown| **shown == text).count(), 2, "{text:?} in {texts:?}");
        }
    }

    #[test]
    fn without_points_there_is_no_image() {
        for lines in [
            vec![],
            vec![line("Roomcast", &[])],
            vec![line("Roomcast", &[(0.0, 1.0)])],
        ] {
            assert_eq!(draw(&[chart(lines)]).unwrap(), None);
        }
    }

    #[test]
    fn one_point_of_one_chart_makes_an_image() {
        let charts = [chart(vec![]), chart(vec![line("Roomcast", &[(10.0, 5.0)])])];
        assert_eq!(draw(&charts).unwrap(), draw(&charts[1..]).unwrap());
        assert!(draw(&charts).unwrap().is_some());
    }
}
