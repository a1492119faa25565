//! Tells the program which version it is, and unpacks the official Swagger UI files into `OUT_DIR`, gzipped, for `src/swagger_ui.rs` to embed.
//!
//! Neither a version nor a file name with a version in it stands here: raising the build dependency is all an update takes.

#[path = "../shared/build/version.rs"]
mod version;

use std::{
    env,
    error::Error,
    fs::File,
    io::{self, Cursor},
    path::PathBuf,
};

use flate2::{Compression, write::GzEncoder};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

const FILES: [&str; 3] = ["swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../shared/build/version.rs");
    version::emit();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;

    for file in FILES {
        let entry = entry_of(&archive, file)?;
        let mut packed = GzEncoder::new(File::create(out.join(format!("{file}.gz")))?, Compression::best());
        io::copy(&mut archive.by_name(&entry)?, &mut packed)?;
        packed.finish()?;
    }

    // "swagger-ui-5.32.6/dist/swagger-ui.css" holds the version.
    let entry = entry_of(&archive, FILES[1])?;
    let version = entry.strip_prefix("swagger-ui-").and_then(|rest| rest.split('/').next());
    let version = version.ok_or_else(|| format!("no version in the path {entry}"))?;
    println!("cargo::rustc-env=SWAGGER_UI_VERSION={version}");
    Ok(())
}

fn entry_of(archive: &ZipArchive<Cursor<&[u8]>>, file: &str) -> Result<String, String> {
    let suffix = format!("/dist/{file}");
    let entry = archive.file_names().find(|name| name.ends_with(&suffix));
    entry.map(str::to_owned).ok_or_else(|| format!("the Swagger UI archive has no {suffix}"))
}
