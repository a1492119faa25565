//! What a search asks for, and whether a text has it.
//!
//! A word is a run of letters and digits. Words are compared folded: case, accents and compatible forms (full-width letters,
//! ligatures) make no difference. Scripts that write no spaces between words, Chinese and Japanese, have a word for each character,
//! so that any part of a sentence is found as a phrase.

use std::ops::Range;

use icu_casemap::{CaseMapper, CaseMapperBorrowed};
use icu_normalizer::{DecomposingNormalizer, DecomposingNormalizerBorrowed};
use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup, Ideographic, Script,
};
use icu_properties::{CodePointMapData, CodePointSetData};

use super::{Invalid, check_length};

const NFKD: DecomposingNormalizerBorrowed<'static> = DecomposingNormalizer::new_nfkd();
const CASES: CaseMapperBorrowed<'static> = CaseMapper::new();

/// The combining classes of accents and of vowel signs that writers leave out (Unicode, table 4-3). Those below them are parts of
/// letters: the nukta, the virama, and the voicing marks of kana.
const FIRST_ACCENT: CanonicalCombiningClass = CanonicalCombiningClass(10);

/// A parsed query: every term must be in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    terms: Vec<Term>,
}

/// Words that follow each other. The last one may be the beginning of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    words: Vec<String>,
    is_prefix: bool,
}

impl SearchQuery {
    /// The longest query, in characters.
    pub const MAX_LEN: usize = 200;

    /// Reads a query: words, `"phrases in quotes"`, and beginnings of words such as `wor*`. Whatever else it has separates
    /// words. A query without words is valid and finds nothing.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        check_length("q", raw, 1, Self::MAX_LEN)?;
        let mut terms: Vec<Term> = Vec::new();
        let mut rest = raw;
        while let Some(first) = rest.chars().next() {
            let (part, after) = if is_quote(first) {
                let inside = &rest[first.len_utf8()..];
                let end = inside.find(is_quote).unwrap_or(inside.len());
                let after = inside[end..].chars().next().map_or(0, char::len_utf8);
                (&inside[..end], &inside[end + after..])
            } else {
                rest.split_at(rest.find(|c: char| c.is_whitespace() || is_quote(c)).unwrap_or(rest.len()))
            };
            // A star may stand inside of the quotes or behind them.
            let is_prefix = part.ends_with('*') || after.starts_with('*');
            let words: Vec<String> = Words::of(part).iter().map(|(word, _)| word.to_owned()).collect();
            let term = Term { words, is_prefix };
            if !term.words.is_empty() && !terms.contains(&term) {
                terms.push(term);
            }
            rest = if first.is_whitespace() {
                &rest[first.len_utf8()..]
            } else {
                after
            };
        }
        Ok(Self { terms })
    }

    /// Whether it has no words, and so finds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The words that a text must have, each with whether it may also begin a longer word.
    pub fn words(&self) -> impl Iterator<Item = (&str, bool)> {
        self.terms.iter().flat_map(|term| {
            let last = term.words.len() - 1;
            let words = term.words.iter().enumerate();
            words.map(move |(index, word)| (word.as_str(), term.is_prefix && index == last))
        })
    }

    /// The ranges of `text` in bytes that match, in their order, each a word; `None` if it lacks a term.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<Vec<Range<usize>>> {
        if self.terms.is_empty() {
            return None;
        }
        let words = Words::of(text);
        let mut found: Vec<Range<usize>> = Vec::new();
        for term in &self.terms {
            let before = found.len();
            for start in 0..(words.len() + 1).saturating_sub(term.words.len()) {
                if term.is_at(&words, start) {
                    found.extend((start..start + term.words.len()).map(|index| words.get(index).1));
                }
            }
            if found.len() == before {
                return None;
            }
        }
        found.sort_unstable_by_key(|range| range.start);
        found.dedup();
        Some(found)
    }
}

impl Term {
    fn is_at(&self, words: &Words, start: usize) -> bool {
        let last = self.words.len() - 1;
        self.words.iter().enumerate().all(|(index, wanted)| {
            let (word, _) = words.get(start + index);
            if self.is_prefix && index == last {
                word.starts_with(wanted.as_str())
            } else {
                word == wanted
            }
        })
    }
}

/// Telephones and word processors write other quotes than `"`.
fn is_quote(c: char) -> bool {
    matches!(c, '"' | '“' | '”' | '„' | '«' | '»')
}

/// The words of a text, folded, with where they stand in it.
#[derive(Debug, Default)]
pub struct Words {
    folded: String,
    /// The end of each word in `folded`, and its range in the text.
    spans: Vec<(usize, Range<usize>)>,
}

impl Words {
    /// The words of `text`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut words = Self::default();
        let mut start = None;
        let mut was_solitary = false;
        for (at, c) in text.char_indices() {
            let kind = CharacterKind::of(c);
            let continues = match kind {
                CharacterKind::Joined => true,
                CharacterKind::Letter => !was_solitary,
                CharacterKind::Solitary | CharacterKind::Separator => false,
            };
            if !continues && let Some(start) = start.take() {
                words.push(text, start..at);
            }
            match kind {
                CharacterKind::Letter | CharacterKind::Solitary => {
                    start.get_or_insert(at);
                    was_solitary = kind == CharacterKind::Solitary;
                }
                CharacterKind::Joined | CharacterKind::Separator => {}
            }
        }
        if let Some(start) = start {
            words.push(text, start..text.len());
        }
        words
    }

    fn push(&mut self, text: &str, range: Range<usize>) {
        let before = self.folded.len();
        fold_into(&mut self.folded, &text[range.clone()]);
        if self.folded.len() > before {
            self.spans.push((self.folded.len(), range));
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    fn get(&self, index: usize) -> (&str, Range<usize>) {
        let start = index.checked_sub(1).map_or(0, |before| self.spans[before].0);
        let (end, range) = &self.spans[index];
        (&self.folded[start..*end], range.clone())
    }

    /// Each word, folded, with its range in the text in bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// What a character does to words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CharacterKind {
    /// It begins a word or continues one.
    Letter,
    /// It is a word.
    Solitary,
    /// It belongs to the character before it: accents and invisible characters.
    Joined,
    /// It stands between words.
    Separator,
}

impl CharacterKind {
    fn of(c: char) -> Self {
        if c.is_ascii() {
            return if c.is_ascii_alphanumeric() {
                Self::Letter
            } else {
                Self::Separator
            };
        }
        let category = CodePointMapData::<GeneralCategory>::new().get(c);
        if GeneralCategoryGroup::Mark.contains(category)
            || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        {
            Self::Joined
        } else if !GeneralCategoryGroup::Letter.union(GeneralCategoryGroup::Number).contains(category) {
            Self::Separator
        } else if CodePointSetData::new::<Ideographic>().contains(c) || is_kana(c) {
            Self::Solitary
        } else {
            Self::Letter
        }
    }
}

fn is_kana(c: char) -> bool {
    let script = CodePointMapData::<Script>::new().get(c);
    // The sign that lengthens a vowel is common to both.
    script == Script::Hiragana || script == Script::Katakana || matches!(c, 'ー' | 'ｰ')
}

/// Adds `word` to `out`, folded.
fn fold_into(out: &mut String, word: &str) {
    if word.is_ascii() {
        let start = out.len();
        out.push_str(word);
        out[start..].make_ascii_lowercase();
        return;
    }
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let shown: String = word.chars().filter(|&c| !ignorable.contains(c)).collect();
    let folded = CASES.fold_string(&NFKD.normalize(&shown)).into_owned();
    let classes = CodePointMapData::<CanonicalCombiningClass>::new();
    let is_accent = |c: &char| classes.get(*c) >= FIRST_ACCENT;
    out.extend(NFKD.normalize(&folded).chars().filter(|c| !is_accent(c)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Words::of(text).iter().map(|(word, _)| word.to_owned()).collect()
    }

    fn marked(query: &str, text: &str) -> Option<String> {
        let ranges = SearchQuery::parse(query).unwrap().find(text)?;
        let mut out = String::new();
        let mut end = 0;
        for range in ranges {
            out.extend([&text[end..range.start], "[", &text[range.clone()], "]"]);
            end = range.end;
        }
        Some(out + &text[end..])
    }

    #[test]
    fn words_are_folded_runs_of_letters_and_digits() {
        for (text, expected) in [
            ("Hello, WORLD 42!", vec!["hello", "world", "42"]),
            ("don't foo_bar a-b", vec!["don", "t", "foo", "bar", "a", "b"]),
            ("Crème BRÛLÉE cafe\u{301}", vec!["creme", "brulee", "cafe"]),
            ("Straße ΟΔΟΣ ﬁn ＡＢＣ İ", vec!["strasse", "οδοσ", "fin", "abc", "i"]),
            ("東京タワー", vec!["東", "京", "タ", "ワ", "ー"]),
            ("soft\u{ad}hyphen", vec!["softhyphen"]),
            ("\u{301}\u{200b} 🦀 \0 --", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(words(text), expected, "{text:?}");
        }
        assert_ne!(words("が"), words("か"));
        assert_eq!(words("نَصّ"), words("نص"));
    }

    #[test]
    fn a_text_has_all_terms_or_is_not_found() {
        let text = "Hello brave new World, hello wörld";
        for (query, expected) in [
            ("hello", Some("[Hello] brave new World, [hello] wörld")),
            ("HELLO nèw", Some("[Hello] brave [new] World, [hello] wörld")),
            ("wor*", Some("Hello brave new [World], hello [wörld]")),
            ("wor", None),
            ("hello missing", None),
            ("\"new world\"", Some("Hello brave [new] [World], hello wörld")),
            ("“hello wor*”", Some("Hello brave new World, [hello] [wörld]")),
            ("\"hello wor\"*", Some("Hello brave new World, [hello] [wörld]")),
            ("\"world new\"", None),
            ("new-world", Some("Hello brave [new] [World], hello wörld")),
            ("\"hello bra", None),
            ("\"hello brave", Some("[Hello] [brave] new World, hello wörld")),
        ] {
            assert_eq!(marked(query, text).as_deref(), expected, "{query}");
        }
        assert_eq!(marked("京タ", "東京タワー").as_deref(), Some("東[京][タ]ワー"));
        assert_eq!(marked("東タ", "東京タワー"), None);
    }

    #[test]
    fn any_text_within_the_limit_is_a_query() {
        let longest = "x".repeat(SearchQuery::MAX_LEN);
        for query in [
            "\"",
            "*",
            "**",
            "NEAR(",
            "a:b",
            "col:",
            "\0",
            "' OR 1=1 --",
            "\"\"\"\"",
            " ",
            &longest,
            "🦀*\"“",
        ] {
            let query = SearchQuery::parse(query).unwrap();
            assert!(query.find("nothing of this").is_none());
        }
        for nothing in ["*", "\"", "\"\"", "--", "🦀", "\u{301}"] {
            assert!(SearchQuery::parse(nothing).unwrap().is_empty(), "{nothing}");
        }
        assert_eq!(SearchQuery::parse("").unwrap_err().code, "too_short");
        assert_eq!(SearchQuery::parse(&(longest + "x")).unwrap_err().code, "too_long");
    }

    /// Words are stored in the index, by which they are found and removed.
    #[test]
    fn folding_is_the_same_in_every_version() {
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for c in ('\u{80}'..='\u{2FFF}').chain('\u{A000}'..='\u{FFFF}') {
            hash.update(format!("{:?}", words(&format!("a{c}b"))).as_bytes());
        }
        assert_eq!(
            hex::encode(&hash.finish().as_ref()[..8]),
            "aa2bec575758ed84",
            "the rules of words have changed: add a migration that empties search_rooms and search_pages, and then this hash"
        );
    }
}
