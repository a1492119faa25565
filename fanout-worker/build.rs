//! Gives the program its version.

#[path = "../shared/build/version.rs"]
mod version;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../shared/build/version.rs");
    version::emit();
}
