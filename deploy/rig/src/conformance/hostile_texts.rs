//! Texts of messages that break careless readers of event streams.

/// Longest text of a message, in characters.
const LONGEST: usize = 4_000;

/// All texts; no two are equal.
pub(super) fn all() -> Vec<String> {
    let fixed = [
        // Ends of lines in every form, and text that looks like fields of an event.
        "a\nb",
        "a\rb",
        "a\r\nb",
        "a\n\nb",
        "a\r\rb",
        "\r\n\r\ndata: forged",
        "x\ndata: forged\n\n",
        "x\rdata: forged\r\r",
        "x\nid: 1-1\n\n",
        "x\nevent: bye\ndata: {}\n\n",
        "x\nretry: 1\n\n",
        "\n: a comment\n\n",
        "data: {\"seq\":1}",
        "id: 999-999",
        "event: reset",
        "retry: 0",
        ": a comment",
        ":",
        // Characters that some readers treat as ends of lines.
        "a\u{2028}b\u{2028}",
        "a\u{2029}b",
        "a\u{85}b",
        "a\u{b}b\u{c}c\u{1c}d\u{1d}e\u{1e}f",
        "data: a\u{2028}data: b\u{2029}id: 1-1\u{85}\u{85}",
        // Invisible characters, and characters that change how others are displayed.
        "\u{feff}starts with a byte order mark",
        "ends with one\u{feff}",
        "\u{202e}backwards\u{202c}",
        "e\u{301} and \u{e9}",
        "\u{200d}\u{200c}\u{ad}x",
        "tab\tand \u{1}\u{2}\u{1f}\u{7f} controls",
        "\u{80}\u{9f} of the second set",
        "\u{fffd}\u{fffe}\u{ffff} \u{10ffff}",
        // Outside of the basic plane, where a character is two units of UTF-16.
        "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
        "𝔸𝒷𝓬 𐍈 𠜎",
        // Escapes that must not be decoded twice, and bytes that are not text elsewhere.
        "\\u0000 \\x00 %00 \\0 &#0;",
        "\\n\\r\\u2028",
        "\\",
        "\"",
        "\\\"}\n\n",
        "{\"id\":\"x\",\"seq\":1,\"message\":\"in a message\"}",
        "[[[[{\"a\":null}]]]]",
        "</script><script>alert(1)</script><!--",
        "' OR 1=1; --",
        "null",
        "0",
        "[DONE]",
    ];
    let long = [
        "x".repeat(LONGEST),
        "😀".repeat(LONGEST),
        "\n\"\\\r".repeat(LONGEST / 4),
    ];
    fixed.into_iter().map(str::to_owned).chain(long).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// How many there are.
    const COUNT: usize = 48;

    #[test]
    fn texts_are_distinct_and_within_the_limit() {
        let distinct: HashSet<String> = all().into_iter().collect();
        assert_eq!((all().len(), distinct.len()), (COUNT, COUNT));
        assert!(distinct.iter().all(|text| (1..=LONGEST).contains(&text.chars().count())));
    }
}
