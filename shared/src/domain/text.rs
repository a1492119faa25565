//! Unicode rules for the text that users type: normal forms, keys for comparison, and invisible characters.
//!
//! The tables are those of ICU4X, which the Unicode Consortium maintains, and for characters that look the same those of
//! `unicode-security`, which the Rust compiler uses. Keys are stored, and the table of similar characters changes a little with each
//! version of Unicode: a pair that only a later version contains is found when one of the two is written again.

use std::borrow::Cow;

use icu_casemap::{CaseMapper, CaseMapperBorrowed};
use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, Emoji, ExtendedPictographic, GeneralCategory,
    GeneralCategoryGroup, Ideographic, JoiningType, Script, VariationSelector, WhiteSpace,
};
use icu_properties::{CodePointMapData, CodePointSetData};

const NFC: ComposingNormalizerBorrowed<'static> = ComposingNormalizer::new_nfc();
const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizer::new_nfkc();
const CASES: CaseMapperBorrowed<'static> = CaseMapper::new();

/// The most nonspacing marks in a row that a name may have (UTS 39, section 5.4).
const MAX_MARKS: usize = 4;

/// The composed form (NFC): canonically equivalent texts become the same bytes.
pub(super) fn composed(text: &str) -> Cow<'_, str> {
    NFC.normalize(text)
}

/// A form that is equal for spellings of the same text: compatible characters, such as full-width ones, and upper and lower case
/// become the same, and invisible characters are removed (similar to Unicode's NFKC_Casefold).
pub(super) fn caseless(text: &str) -> String {
    // Folding can produce characters that compose, and composing can produce characters that fold.
    let once = fold(&fold(text));
    NFC.normalize(&once).into_owned()
}

fn fold(text: &str) -> String {
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let shown: String = text.chars().filter(|&c| !ignorable.contains(c)).collect();
    let composed = NFKC.normalize(&shown);
    let folded = CASES.fold_string(&composed);
    NFKC.normalize(&folded).into_owned()
}

/// A form that is equal for names that look the same, ignoring case: the skeleton of UTS 39 (section 4) of the caseless form, with
/// each run of spaces replaced by one.
pub(super) fn skeleton(text: &str) -> String {
    let caseless = caseless(text);
    let words: Vec<&str> = caseless.split_whitespace().collect();
    unicode_security::confusable_detection::skeleton(&words.join(" ")).collect()
}

/// The form in which passwords are compared (the mapping of OpaqueString, RFC 8265, section 4.2.2): every space becomes U+0020, and
/// the text is composed. It does not refuse what the profile would refuse, so that every existing password keeps working.
#[must_use]
pub fn normal_password(typed: &str) -> String {
    let separators = CodePointMapData::<GeneralCategory>::new();
    let space = |c| {
        if separators.get(c) == GeneralCategory::SpaceSeparator {
            ' '
        } else {
            c
        }
    };
    let spaced: String = typed.chars().map(space).collect();
    NFC.normalize(&spaced).into_owned()
}

/// True if nothing of `text` is visible: it has only spaces, line ends, control characters and characters that Unicode calls
/// ignorable.
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(is_invisible)
}

fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_graphic();
    }
    CodePointSetData::new::<WhiteSpace>().contains(c)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || c.is_control()
        // A braille pattern without dots, and the marks of interlinear annotations: invisible without such a property.
        || matches!(c, '\u{2800}' | '\u{FFF9}'..='\u{FFFB}')
}

/// True if every character of `name` is visible or needed at its position, and a reader can tell the name from others.
pub(super) fn is_legible(name: &str) -> bool {
    let characters: Vec<char> = name.chars().collect();
    let is_mark = |c: &char| GeneralCategoryGroup::Mark.contains(category(*c));
    if characters.first().is_some_and(is_mark) {
        return false;
    }
    let mut marks = 0;
    characters.iter().enumerate().all(|(at, &c)| {
        marks = if category(c) == GeneralCategory::NonspacingMark {
            marks + 1
        } else {
            0
        };
        (marks <= MAX_MARKS || is_selector(c))
            && (is_visible(c) || is_needed(&characters[..at], c, &characters[at + 1..]))
    })
}

/// True for characters that are visible by themselves, and for the space.
fn is_visible(c: char) -> bool {
    match category(c) {
        GeneralCategory::Control
        | GeneralCategory::Format
        | GeneralCategory::Surrogate
        | GeneralCategory::PrivateUse
        | GeneralCategory::Unassigned
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator => false,
        GeneralCategory::SpaceSeparator => c == ' ',
        _ => !is_invisible(c),
    }
}

/// True if `c`, which is invisible, changes how its neighbours are drawn in a way that a script or an emoji needs.
fn is_needed(before: &[char], c: char, after: &[char]) -> bool {
    match c {
        '\u{200C}' => ends_in_virama(before) || stands_between_joined(before, after),
        '\u{200D}' => ends_in_virama(before) || joins_emoji(before, after),
        _ if is_selector(c) => before.last().is_some_and(|&base| takes_selector(base, c)),
        '\u{E0020}'..='\u{E007F}' => is_part_of_flag(before, c, after),
        _ => false,
    }
}

/// The first rule for both joiners of RFC 5892, appendix A.
fn ends_in_virama(before: &[char]) -> bool {
    let classes = CodePointMapData::<CanonicalCombiningClass>::new();
    before.last().is_some_and(|&c| classes.get(c) == CanonicalCombiningClass::Virama)
}

/// The second rule for U+200C of RFC 5892, appendix A.1: it separates two letters that would be joined.
fn stands_between_joined(before: &[char], after: &[char]) -> bool {
    let types = CodePointMapData::<JoiningType>::new();
    let joining = |c: &char| Some(types.get(*c)).filter(|kind| *kind != JoiningType::Transparent);
    let last = before.iter().rev().find_map(joining);
    let next = after.iter().find_map(joining);
    matches!(last, Some(JoiningType::LeftJoining | JoiningType::DualJoining))
        && matches!(next, Some(JoiningType::RightJoining | JoiningType::DualJoining))
}

/// Part of an emoji sequence, such as a family (UTS 51, section 2.3).
fn joins_emoji(before: &[char], after: &[char]) -> bool {
    let pictures = CodePointSetData::new::<ExtendedPictographic>();
    let mut base = before.iter().rev().filter(|c| !matches!(c, '\u{FE0F}' | '\u{1F3FB}'..='\u{1F3FF}'));
    base.next().is_some_and(|&c| pictures.contains(c)) && after.first().is_some_and(|&c| pictures.contains(c))
}

fn is_selector(c: char) -> bool {
    CodePointSetData::new::<VariationSelector>().contains(c)
}

/// Whether `base` has the variant that `selector` selects: emoji have a text and a picture form, ideographs and Mongolian letters
/// have variants.
fn takes_selector(base: char, selector: char) -> bool {
    match selector {
        '\u{FE0E}' | '\u{FE0F}' if CodePointSetData::new::<Emoji>().contains(base) => true,
        '\u{FE00}'..='\u{FE02}' | '\u{E0100}'..='\u{E01EF}' => CodePointSetData::new::<Ideographic>().contains(base),
        '\u{180B}'..='\u{180F}' => CodePointMapData::<Script>::new().get(base) == Script::Mongolian,
        _ => false,
    }
}

/// Part of the flag of a region: a black flag, letters and digits as tags, and an end tag (UTS 51, section 2.5).
fn is_part_of_flag(before: &[char], c: char, after: &[char]) -> bool {
    let is_tag = |c: &&char| matches!(c, '\u{E0030}'..='\u{E0039}' | '\u{E0061}'..='\u{E007A}');
    let tags = before.iter().rev().take_while(is_tag).count();
    let begins = before[..before.len() - tags].last() == Some(&'\u{1F3F4}');
    let mut rest = after.iter().skip_while(is_tag);
    begins && ((c == '\u{E007F}' && tags > 0) || (is_tag(&&c) && rest.next() == Some(&'\u{E007F}')))
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_a_text_have_one_caseless_form() {
        for (one, other) in [
            ("Carol@Example.org", "carol@example.ORG"),
            ("Jürgen", "Ju\u{308}rgen"),
            ("ＡＮＮ", "ann"),
            ("STRASSE", "straße"),
            ("ann", "a\u{AD}nn"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ] {
            assert_eq!(caseless(one), caseless(other), "{one}");
        }
        for (one, other) in [("ann", "anna"), ("a", "ä"), ("rn", "m"), ("а", "a")] {
            assert_ne!(caseless(one), caseless(other), "{one}");
        }
    }

    #[test]
    fn names_that_look_the_same_have_one_skeleton() {
        for (one, other) in [
            ("carol", "CAROL"),
            ("admin", "\u{430}dmin"),
            ("admin", "\u{410}DMIN"),
            ("paypal", "раураl"),
            ("modern", "modem"),
            ("bill", "bi11"),
            ("Ann Lee", "ann  lee"),
            ("O'Neil", "o\u{2019}neil"),
            ("👨\u{200D}👩", "👨👩"),
        ] {
            assert_eq!(skeleton(one), skeleton(other), "{one}");
        }
        for (one, other) in [
            ("ann", "anne"),
            ("Müller", "Muller"),
            ("名前", "名"),
            ("Lia", "Ila"),
            ("иван", "ivan"),
        ] {
            assert_ne!(skeleton(one), skeleton(other), "{one}");
        }
    }

    #[test]
    fn names_of_all_scripts_are_legible() {
        for name in [
            "Ann Lee",
            "Jürgen",
            "名前",
            "辻\u{E0100}",
            "🦀",
            "👨\u{200D}👩\u{200D}👧",
            "👩🏽\u{200D}🚀",
            "❤\u{FE0F}",
            "🏳\u{FE0F}\u{200D}🌈",
            "1\u{FE0F}\u{20E3}",
            "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
            "مهدی\u{200C}پور",
            "علی\u{200C}رضا",
            "ශ්\u{200D}රී",
            "क्\u{200D}ष",
            "Nguyễn Văn Ánh",
            "สมชาย",
            "O'Neil",
        ] {
            assert!(is_legible(name), "{name:?}");
        }
    }

    #[test]
    fn invisible_and_deceptive_characters_are_not_legible() {
        for name in [
            "\u{3164}",
            "ann\u{AD}",
            "ann\u{200D}",
            "a\u{200C}nn",
            "\u{200C}ann",
            "ann\u{FE0F}",
            "ann\u{202E}",
            "a\u{200B}nn",
            "a\u{2060}nn",
            "a\nb",
            "a\0",
            "\u{85}",
            "ann\u{A0}lee",
            "\u{2800}",
            "\u{301}ann",
            "a\u{301}\u{302}\u{303}\u{304}\u{305}",
            "ann\u{E000}",
            "ann\u{E0061}",
            "🏴\u{E0067}",
            "\u{115F}",
            "\u{FFA0}",
            "\u{180E}",
            "🦀\u{FE0F}\u{FE0F}",
        ] {
            assert!(!is_legible(name), "{name:?}");
        }
    }

    #[test]
    fn a_text_without_visible_characters_is_blank() {
        for blank in [
            "",
            " ",
            "\r\n\t",
            "\u{3164}",
            "\u{A0}\u{2003}\u{200B}",
            "\u{FE0F}\u{200D}",
            "\u{2800}",
            "\u{1}\u{85}",
        ] {
            assert!(is_blank(blank), "{blank:?}");
        }
        for text in ["a", " . ", "\u{200B}x", "🦀", "é", "\u{301}"] {
            assert!(!is_blank(text), "{text:?}");
        }
    }

    #[test]
    fn a_password_is_equal_from_every_keyboard() {
        assert_eq!(normal_password("Pa\u{DF}wo\u{308}rt\u{A0}1"), "Pa\u{DF}w\u{F6}rt 1");
        // Case and compatible characters are part of a password.
        assert_eq!(normal_password("ＡbＣ"), "ＡbＣ");
        assert_eq!(normal_password("plain ASCII"), "plain ASCII");
    }

    proptest! {
        #[test]
        fn forms_are_stable(text in "\\PC{0,20}") {
            prop_assert_eq!(caseless(&caseless(&text)), caseless(&text));
            prop_assert_eq!(normal_password(&normal_password(&text)), normal_password(&text));
            let composed = composed(&text).into_owned();
            prop_assert_eq!(caseless(&composed), caseless(&text));
            prop_assert_eq!(skeleton(&composed), skeleton(&text));
        }

        #[test]
        fn upper_and_lower_case_have_one_key(text in "[a-zA-Zäöüéñа-яΑ-Ωα-ω]{0,20}") {
            prop_assert_eq!(skeleton(&text.to_uppercase()), skeleton(&text.to_lowercase()));
        }
    }
}
