//! Rows of Markdown tables, and how figures are written in them.

use std::fmt::Write as _;

use crate::results::table::grouped;

/// Stands in a cell whose figure was not measured.
pub(super) const NOTHING: &str = "–";

/// A table with these columns and no row yet.
pub(super) fn header_row(names: &[&str]) -> String {
    let mut text = String::new();
    row(&mut text, names);
    row(&mut text, &vec!["---"; names.len()]);
    text
}

/// Adds a row.
pub(super) fn row(text: &mut String, cells: &[impl AsRef<str>]) {
    for cell in cells {
        let _ = write!(text, "| {} ", cell.as_ref());
    }
    text.push_str("|\n");
}

/// The figure as `show` writes it, or [`NOTHING`].
pub(super) fn shown(figure: Option<f64>, show: fn(f64) -> String) -> String {
    figure.map_or_else(|| NOTHING.to_owned(), show)
}

/// Three figures in one cell.
pub(super) fn shown_together(figures: [Option<f64>; 3]) -> String {
    if figures.iter().all(Option::is_none) {
        return NOTHING.to_owned();
    }
    figures.map(|figure| shown(figure, number)).join(" / ")
}

/// The figure with about three digits, and without a fraction if it is whole.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is cast is positive and small against 2^64"
)]
pub(super) fn number(figure: f64) -> String {
    match figure {
        figure if figure < 0.0 => format!("−{}", number(-figure)),
        figure if figure.is_infinite() => "never".to_owned(),
        figure if figure >= 100.0 || figure.fract() == 0.0 => grouped(figure.round() as u64),
        figure if figure >= 10.0 => format!("{figure:.1}"),
        figure => format!("{figure:.2}"),
    }
}

/// A time in a suitable unit.
pub(super) fn duration(nanos: f64) -> String {
    match nanos {
        nanos if nanos < 1e3 => format!("{nanos:.1} ns"),
        nanos if nanos < 1e6 => format!("{:.2} µs", nanos / 1e3),
        nanos => format!("{:.2} ms", nanos / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (figure, text) in [
            (0.123, "0.12"),
            (0.0, "0"),
            (12.34, "12.3"),
            (1_234.5, "1,235"),
            (-20.0, "−20"),
            (f64::INFINITY, "never"),
        ] {
            assert_eq!(number(figure), text);
        }
    }

    #[test]
    fn times_have_a_unit_that_suits_them() {
        for (nanos, text) in [(12.3, "12.3 ns"), (4_560.0, "4.56 µs"), (7_890_000.0, "7.89 ms")] {
            assert_eq!(duration(nanos), text);
        }
    }

    #[test]
    fn several_figures_share_a_cell() {
        assert_eq!(shown_together([Some(1.0), None, Some(2.5)]), "1 / – / 2.50");
        assert_eq!(shown_together([None; 3]), NOTHING);
    }
}
