//! The version of the two programs, with the commit they are built from, for their build scripts.

use std::path::Path;
use std::process::Command;

/// Digits of a commit: more than git itself needs to tell commits apart in a repository of this size.
const DIGITS: usize = 12;

/// Sets `ROOMCAST_VERSION` to `0.1.0 (1a2b3c4d5e6f)`. The commit is that of `REVISION` in the environment, which is for
/// builds without the repository such as that of the image, or else that of the repository; without both it is left out.
pub(crate) fn emit() {
    println!("cargo::rerun-if-env-changed=REVISION");
    let given = std::env::var("REVISION")
        .ok()
        .filter(|revision| revision.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let commit = given.filter(|revision| !revision.is_empty()).or_else(of_repository);
    let version = env!("CARGO_PKG_VERSION");
    let version = match commit {
        Some(commit) => format!("{version} ({})", &commit[..commit.len().min(DIGITS)]),
        None => version.to_owned(),
    };
    println!("cargo::rustc-env=ROOMCAST_VERSION={version}");
}

/// The commit that is checked out; `None` without git, and where the sources only lie inside of another repository.
fn of_repository() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "Cargo.toml"])?;
    // The files that determine the commit: the one that names the branch, and the branch, which may be in the packed refs.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        // A file that does not exist would make cargo run every build anew.
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"])
}

/// The output of git, if it succeeds.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let printed = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
    Some(printed.trim().to_owned())
}
