//! The pages of the repository: every relative link leads to a file and to a heading that are there.

use std::collections::HashSet;
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
