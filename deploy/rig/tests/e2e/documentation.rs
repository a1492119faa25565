//! The pages of the repository: every relative link leads to a file and to a heading that are there, and the page for operators names
//! every log event.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The root of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What a page consists of, as far as links are concerned.
#[derive(Default)]
struct Page {
    links: Vec<String>,
    anchors: HashSet<String>,
}

impl Page {
    fn parse(markdown: &str) -> Self {
        let mut page = Self::default();
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.anchors.extend(heading.take().map(|text| anchor(&text))),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                _ => {}
            }
        }
        page
    }
}

/// The anchor that GitHub gives a heading: letters, digits, `-` and `_` in lower case, with `-` for each space.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Every Markdown file of the repository, `README.md` first.
fn pages() -> Vec<PathBuf> {
    let docs = Path::new(ROOT).join("deploy/docs");
    let mut pages = vec![Path::new(ROOT).join("README.md")];
    for directory in [docs.join("performance"), docs] {
        let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    pages
}

/// What is wrong with `link` on the page at `path`, if anything is.
fn complaint(path: &Path, link: &str) -> Option<String> {
    if ["http://", "https://"].iter().any(|scheme| link.starts_with(scheme)) {
        return None;
    }
    let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() {
        path.to_owned()
    } else {
        path.parent()?.join(file)
    };
    if !target.exists() {
        return Some(format!("{}: {link} leads to no file", path.display()));
    }
    if fragment.is_empty() {
        return None;
    }
    let page = Page::parse(&fs::read_to_string(&target).unwrap());
    (!page.anchors.contains(fragment)).then(|| format!("{}: {link} leads to no heading", path.display()))
}

/// The Rust files below `directory`, those of tests aside.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files
}

/// The log events that a source file defines outside of its tests, each with its level.
fn defined_events(source: &str) -> Vec<(String, String)> {
    let (product, _) = source.split_once("#[cfg(test)]\nmod tests").unwrap_or((source, ""));
    let level_of = [("::outage(", "error"), ("::refusal(", "info")];
    let found = level_of.into_iter().flat_map(|(constructor, level)| {
        product.split(constructor).skip(1).filter_map(move |call| {
            let (name, rest) = call.trim_start().strip_prefix('"')?.split_once('"')?;
            let is_warning = rest.split(";\n").next()?.contains(".warning()");
            Some((name.to_owned(), if is_warning { "warn" } else { level }.to_owned()))
        })
    });
    found.collect()
}

#[test]
fn every_log_event_is_explained_to_operators() {
    let mut defined = BTreeSet::new();
    for source in ["shared/src", "gateway/src", "fanout-worker/src"] {
        for file in rust_files(&Path::new(ROOT).join(source)) {
            defined.extend(defined_events(&fs::read_to_string(file).unwrap()));
        }
    }
    let page = fs::read_to_string(Path::new(ROOT).join("deploy/docs/operations.md")).unwrap();
    let (_, section) = page.split_once("\n## Log events\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let explained: BTreeSet<(String, String)> = section
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            Some((name.to_owned(), rest.split_once(" | ")?.0.to_owned()))
        })
        .collect();
    assert_eq!(explained, defined);
    assert!(defined.len() > 15, "only {defined:?} were found");
}

#[test]
fn log_events_and_their_levels_are_found_in_sources() {
    let source = r#"
        static A: LogEvent = LogEvent::outage("a_fails", "it fails");
        static B: LogEvent = LogEvent::refusal(
            "b_refused", "it is refused",
        )
        .warning();
        static C: LogEvent = LogEvent::refusal("c_refused", "it is refused");
        #[cfg(test)]
mod tests { static D: LogEvent = LogEvent::outage("d", ""); }
    "#;
    let expected = [("a_fails", "error"), ("b_refused", "warn"), ("c_refused", "info")];
    assert_eq!(defined_events(source), expected.map(|(name, level)| (name.to_owned(), level.to_owned())));
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    let mut complaints = Vec::new();
    for path in pages() {
        for link in Page::parse(&fs::read_to_string(&path).unwrap()).links {
            links += 1;
            complaints.extend(complaint(&path, &link));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(links > 30, "only {links} links were found");
}

#[test]
fn dead_links_are_found() {
    let readme = Path::new(ROOT).join("README.md");
    for dead in ["deploy/docs/nothing.md", "deploy/docs/redis.md#nothing", "#nothing"] {
        assert!(complaint(&readme, dead).is_some(), "{dead}");
    }
}

#[test]
fn reducer_on_the_page_is_the_one_that_is_tested() {
    let root = Path::new(ROOT);
    let page = fs::read_to_string(root.join("deploy/docs/log.md")).unwrap();
    let shown = page.split_once("```ts\n").and_then(|(_, rest)| rest.split_once("\n```")).unwrap().0;
    let tested = fs::read_to_string(root.join("deploy/conformance/node/room-log.ts")).unwrap();
    assert_eq!(shown, tested.trim_end());
}
