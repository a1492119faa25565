//! Finds the programs that the rig starts.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Explain, Failure, Result};

/// Directory of the service binaries, when they are not beside the test.
const BIN_DIR_VARIABLE: &str = "RIG_BIN_DIR";

/// One of our own binaries: from `RIG_BIN_DIR`, else from the target directory the running test was built into.
pub fn service_binary(name: &str) -> Result<PathBuf> {
    let directory = if let Some(directory) = std::env::var_os(BIN_DIR_VARIABLE) {
        PathBuf::from(directory)
    } else {
        let test = std::env::current_exe().explain(|| "the path of the running test is not known".to_owned())?;
        let directory = test.parent().unwrap_or(Path::new("."));
        // target/debug/deps/e2e-… and target/debug/some-tool both lead to target/debug.
        let above = directory.ends_with("deps").then(|| directory.parent()).flatten();
        above.unwrap_or(directory).to_owned()
    };
    let path = directory.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(format!(
        "there is no binary {}: build it with `cargo build -p {name}` or set {BIN_DIR_VARIABLE}",
        path.display()
    )))
}

/// A program of the system, looked up in `PATH`.
pub fn system_program(name: &str, package: &str) -> Result<PathBuf> {
    find_in_path(name).ok_or_else(|| Failure::new(format!("there is no {name} in PATH: install the package {package}")))
}

/// A command that is killed with the thread that starts it, where the system can arrange that.
///
/// `setpriv` (util-linux) sets the parent-death signal and then becomes the program, under the same pid. Without it,
/// `Drop` alone ends the processes, which a killed test run does not reach.
#[must_use]
pub fn command(program: &Path) -> Command {
    command_ended_by("KILL", program)
}

/// The same with another signal for that moment.
#[must_use]
pub fn command_ended_by(signal: &str, program: &Path) -> Command {
    match find_in_path("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", signal, "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// The first program called `name` in `PATH`.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}
