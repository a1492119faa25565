//! Who may use whom. The tables below are the architecture: each crate is a list of layers, the topmost first, and a module uses
//! modules of lower layers only. Nothing points upward or sideways, so modules depend on each other without cycles.
//!
//! What a module is made of, the files below it, is its own business and not looked at; nor are tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Ident, ItemMod, ItemUse, UseTree};

/// Modules of a crate by layers, the topmost first.
type Layers = &'static [&'static [&'static str]];

/// Names of modules that are compiled for tests alone.
const TEST_MODULES: &[&str] = &["tests", "test_fixture"];

const SHARED: Layers = &[
    &["bootstrap"],
    &["storage"],
    &["bus"],
    &["batcher", "blocking", "domain", "lifecycle", "telemetry"],
    &["settings"],
];

const FANOUT_WORKER: Layers = &[
    // The loop, and the commands of operators.
    &[
        "pipeline",
        "dead_letters",
        "copy",
        "search_indexer",
        "sqlite_checkpoints",
    ],
    // Who stores what, and what follows a commit.
    &["ownership", "publisher"],
    &["persist", "trimmer"],
    &["batch", "log_reader", "publications"],
    &["config", "crash_point", "dead_letter_encoding"],
];

const GATEWAY: Layers = &[
    // Runs the whole.
    &["serve"],
    &["commands"],
    // HTTP: handlers translate.
    &["api"],
    // Builds and connects what is below.
    &["services"],
    // Use cases.
    &[
        "accounts",
        "messages",
        "presence",
        "search",
        "streams",
        "sync",
        "typing",
        "user_rooms",
        "health",
        "epoch_watch",
        "worker_watch",
        "own_rooms_watch",
        "clock_check",
        "swagger_ui",
        "start_error",
    ],
    &["rooms", "user_lookup"],
    // What has ended, here and at other gateways.
    &["revocation_watcher"],
    &["event_dispatch"],
    // What events are applied to.
    &["accept", "auth", "control_channel", "live", "room_directory", "server"],
    &[
        "fanout",
        "freshness",
        "history",
        "outbox_hints",
        "policy",
        "rate_limits",
    ],
    &["change_json", "room_state_json"],
    // What everything may use.
    &["config", "message_json"],
    &[
        "client_network",
        "digest",
        "encoding",
        "invalidating_cache",
        "json",
        "listen",
    ],
];

const RIG: Layers = &[
    &["faults"],
    // A whole run: load, faults, and what was seen.
    &["fault_run", "population"],
    &["state_sampler"],
    &["conformance", "floods", "traffic"],
    // Everything that is started, together.
    &["stack"],
    &["accept_log", "gateway", "redis_cluster", "redis_sentinels", "redis_tls"],
    &[
        "api_client",
        "browser",
        "database",
        "measures",
        "oracle",
        "postgres_server",
        "redis_node",
        "redis_server",
        "worker",
    ],
    &["disk", "evidence", "proxy", "restartable_process", "stream_request"],
    &[
        "eventually",
        "history_check",
        "http_response",
        "memory",
        "ports",
        "programs",
        "redis_connection",
        "report",
        "sockets",
        "sse",
    ],
    &["failure", "latencies", "process", "statement_log"],
];

const LOADTEST: Layers = &[
    &["bench", "run"],
    &["results", "threads"],
    // The servers: what they are asked, and how.
    &["target"],
    &["client", "file_limit", "plan", "progress"],
];

#[test]
fn modules_use_lower_layers_only() {
    let complaints: Vec<String> = [
        ("shared/src", SHARED),
        ("fanout-worker/src", FANOUT_WORKER),
        ("gateway/src", GATEWAY),
        ("deploy/rig/src", RIG),
        ("deploy/loadtest/src", LOADTEST),
    ]
    .into_iter()
    .flat_map(|(source, layers)| complaints(source, layers))
    .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// What the modules in `source` do that `layers` do not allow.
fn complaints(source: &str, layers: Layers) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(source);
    let layer_of: BTreeMap<&str, usize> = layers
        .iter()
        .enumerate()
        .flat_map(|(layer, modules)| modules.iter().map(move |module| (*module, layer)))
        .collect();
    let mut complaints = Vec::new();
    for (module, used) in uses(&root) {
        let Some(layer) = layer_of.get(module.as_str()) else {
            complaints.push(format!("{source}: {module} has no layer"));
            continue;
        };
        for other in used.iter().filter(|other| **other != module) {
            // What is not a module is an item of the crate's root, which stands above all of them.
            if layer_of.get(other.as_str()).is_none_or(|below| below <= layer) {
                complaints.push(format!("{source}: {module} must not use {other}"));
            }
        }
    }
    complaints
}

/// The modules of a crate, and the names below `crate::` that each of them mentions.
fn uses(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in source_files(root) {
        let path = file.strip_prefix(root).unwrap();
        let module = path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if !["lib", "main", "bin"].contains(&module.as_str()) {
            let depth = path.iter().count();
            uses.entry(module)
                .or_default()
                .extend(names_below_crate(&fs::read_to_string(&file).unwrap(), depth));
        }
    }
    uses
}

/// The source files below `directory`, those of tests aside.
fn source_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        if TEST_MODULES.contains(&name) {
            continue;
        }
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The first names behind `crate::`, or behind as many `super::` as lead there, in the source file of a module that is `depth`
/// modules below the root of its crate; those in its tests aside.
fn names_below_crate(source: &str, depth: usize) -> BTreeSet<String> {
    let mut names = Names {
        found: BTreeSet::new(),
        depth,
    };
    names.visit_file(&syn::parse_file(source).unwrap());
    names.found
}

struct Names {
    found: BTreeSet<String>,
    /// How many modules the present one is below the root of its crate.
    depth: usize,
}

impl Names {
    fn add_tree(&mut self, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => self.add(&path.ident),
            UseTree::Name(name) => self.add(&name.ident),
            UseTree::Rename(rename) => self.add(&rename.ident),
            UseTree::Glob(_) => self.add(&"*"),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree)),
        }
    }

    fn add(&mut self, name: &impl ToString) {
        self.found.insert(name.to_string());
    }

    /// Adds the name behind the prefix of `tree` if that leads to the root, from the module that is `depth` below it.
    fn add_below_root(&mut self, tree: &UseTree, depth: usize) {
        match tree {
            UseTree::Path(path) if path.ident == "self" => self.add_below_root(&path.tree, depth),
            UseTree::Path(path) if path.ident == "super" && depth == 1 => self.add_tree(&path.tree),
            UseTree::Path(path) if path.ident == "super" => self.add_below_root(&path.tree, depth - 1),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_below_root(tree, depth)),
            _ => {}
        }
    }
}

impl Visit<'_> for Names {
    fn visit_item_mod(&mut self, item: &ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg") && attribute.parse_args::<Ident>().is_ok_and(|cfg| cfg == "test")
        });
        if !is_test {
            self.depth += 1;
            visit::visit_item_mod(self, item);
            self.depth -= 1;
        }
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        match &item.tree {
            UseTree::Path(path) if path.ident == "crate" => self.add_tree(&path.tree),
            tree => self.add_below_root(tree, self.depth),
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let mut segments = path.segments.iter().skip_while(|segment| segment.ident == "self").peekable();
        let mut ups = 0;
        while segments.next_if(|segment| segment.ident == "super").is_some() {
            ups += 1;
        }
        if ups == self.depth || segments.next_if(|segment| segment.ident == "crate").is_some() {
            self.found.extend(segments.next().map(|name| name.ident.to_string()));
        }
        visit::visit_path(self, path);
    }
}

#[test]
fn every_way_of_naming_a_module_is_seen() {
    let source = "
        use crate::{a::X, b};
        pub(crate) use crate::c as other;
        fn f(_: crate::d::Y) -> crate::e::Z { crate::g::h() }
        #[cfg(test)]
        mod tests { use crate::not_seen; }
    ";
    let names: Vec<String> = names_below_crate(source, 1).into_iter().collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "g"]);
    // From the file of `x::y`, two modules below the root.
    let source = "
        use super::{not_seen, super::a::X, super::{b, c::Y}};
        use self::super::super::d as other;
        fn f(_: super::super::e::Z) -> super::not_seen::Z { super::super::g::h() }
        mod inside {
            use super::super::{not_seen, super::i};
            fn f() -> super::super::super::j::J { super::super::not_seen() }
        }
    ";
    let names: Vec<String> = names_below_crate(source, 2).into_iter().collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "g", "i", "j"]);
}
