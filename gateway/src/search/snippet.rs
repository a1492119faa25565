//! The part of a text that shows why it was found.

use std::ops::Range;

/// Characters of the text in a snippet, about.
const LENGTH: usize = 160;

/// Characters before the first match.
const BEFORE: usize = 40;

/// A part of `text` around the first of `matches`, which are ranges of bytes in their order, as HTML: what matches is marked, and
/// nothing of the text is markup.
pub(super) fn snippet(text: &str, matches: &[Range<usize>]) -> String {
    let first = matches.first().map_or(0, |first| first.start);
    let start = text[..first].char_indices().rev().take(BEFORE).last().map_or(first, |(at, _)| at);
    // A word that begins before the snippet is left out.
    let space = text[start..first].find(char::is_whitespace).filter(|_| start > 0);
    let start = space.map_or(start, |space| start + space);
    let end = text[start..].char_indices().nth(LENGTH).map_or(text.len(), |(at, _)| start + at);
    let mut html = String::with_capacity(LENGTH * 2);
    if start > 0 {
        html.push('…');
    }
    let mut done = start;
    for found in matches.iter().filter(|found| found.start < end) {
        escape_into(&mut html, &text[done..found.start]);
        html.push_str("<mark>");
        done = found.end.min(end);
        escape_into(&mut html, &text[found.start..done]);
        html.push_str("</mark>");
    }
    escape_into(&mut html, &text[done..end]);
    if end < text.len() {
        html.push('…');
    }
    html
}

fn escape_into(html: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::SearchQuery;

    use super::*;

    fn of(query: &str, text: &str) -> String {
        snippet(text, &SearchQuery::parse(query).unwrap().find(text).unwrap())
    }

    #[test]
    fn matches_are_marked_and_nothing_else_is_markup() {
        assert_eq!(of("wörld hello", "Hello <b>World</b>"), "<mark>Hello</mark> &lt;b&gt;<mark>World</mark>&lt;/b&gt;");
        assert_eq!(of("a", "a & \"b' \u{1}"), "<mark>a</mark> &amp; &quot;b&#39; \u{1}");
        assert_eq!(of("<mark>", "<mark>"), "&lt;<mark>mark</mark>&gt;");
        assert_eq!(snippet("", &[]), "");
    }

    #[test]
    fn long_texts_are_cut_around_the_first_match() {
        let text = format!("{}needle{}", "straw ".repeat(500), " hay".repeat(500));
        let shown = of("needle", &text);
        assert!(shown.starts_with("… straw straw") && shown.ends_with('…'), "{shown}");
        assert!(shown.contains("straw <mark>needle</mark> hay"), "{shown}");
        assert_eq!(shown.replace("<mark>", "").replace("</mark>", "").chars().count(), LENGTH + 2);
        let kana = "あ".repeat(4_000);
        assert_eq!(of("あ", &kana).matches("<mark>").count(), LENGTH);
        let long = "x".repeat(4_000);
        assert_eq!(of("x*", &long), format!("<mark>{}</mark>…", "x".repeat(LENGTH)));
        let late = format!("{} x", "y".repeat(4_000));
        assert_eq!(of("x", &late), "… <mark>x</mark>");
    }
}
