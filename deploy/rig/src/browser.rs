//! A Chromium that is controlled through WebDriver.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fantoccini::error::CmdError;
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::eventually::eventually;
use crate::failure::{Explain, Failure, Result};
use crate::ports::free_port;
use crate::programs::system_program;
use crate::restartable_process::RestartableProcess;

/// How long one command to the browser may take.
const COMMAND_WITHIN: Duration = Duration::from_mins(1);
/// chromedriver and Chromium start in this time even on a machine that is busy with other tests.
const START_WITHIN: Duration = Duration::from_secs(30);

/// A browser with a fresh profile, and a log of all its network requests.
pub struct Browser {
    client: Client,
    network_log: PathBuf,
    /// Kept until the end, because dropping it ends the browser.
    _driver: RestartableProcess,
}

impl Browser {
    /// Starts a browser with its files under `directory`.
    pub async fn start(directory: &Path) -> Result<Self> {
        let chromium = system_program("chromium", "chromium")?;
        let port = free_port()?;
        let mut driver =
            RestartableProcess::new("chromedriver", system_program("chromedriver", "chromium-driver")?, directory)
                .argument(format!("--port={port}"));
        let profile = directory.join("chromium");
        fs::create_dir_all(&profile)?;
        // Files that it keeps under its home stay in the test's directory.
        driver.set("HOME", profile.display().to_string());
        driver.start()?;

        let network_log = directory.join("network.json");
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--window-size=1400,1800".to_owned(),
            // With a pipe in place of a port the browser ends with its driver, however that ends.
            "--remote-debugging-pipe".to_owned(),
            format!("--user-data-dir={}", profile.display()),
            format!("--log-net-log={}", network_log.display()),
        ];
        let mut capabilities = Capabilities::new();
        capabilities.insert("browserName".to_owned(), json!("chrome"));
        capabilities.insert("goog:chromeOptions".to_owned(), json!({"args": arguments, "binary": chromium}));
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let url = format!("http://127.0.0.1:{port}");
        let client = eventually(START_WITHIN, "a browser session", async || {
            driver.check_runs()?;
            Ok(builder.connect(&url).await?)
        })
        .await?;
        Ok(Self {
            client,
            network_log,
            _driver: driver,
        })
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) -> Result<()> {
        within_limit(self.client.goto(url)).await
    }

    /// Runs the body of a JavaScript function in the page and returns what it returns.
    pub async fn run(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        within_limit(self.client.execute(script, arguments)).await
    }

    /// Writes a picture of the window (PNG).
    pub async fn screenshot(&self, file: &Path) -> Result<()> {
        let picture = within_limit(self.client.screenshot()).await?;
        fs::write(file, picture).explain(|| format!("cannot write {}", file.display()))
    }

    /// Closes the browser and returns the URL of every request that pages of `origin` made.
    pub async fn requests_of(self, origin: &str) -> Result<Vec<String>> {
        within_limit(self.client.close()).await?;
        let log = eventually(START_WITHIN, "the browser completes its network log", async || {
            let raw = fs::read_to_string(&self.network_log)?;
            Ok(serde_json::from_str::<Value>(&raw)?)
        })
        .await?;
        let events = log["events"].as_array().ok_or_else(|| Failure::new("a network log without events"))?;
        let by_page = |parameters: &&Value| {
            parameters["initiator"].as_str() == Some(origin)
                || parameters["url"].as_str().is_some_and(|url| url.starts_with(origin))
        };
        let parameters = events.iter().map(|event| &event["params"]).filter(by_page);
        Ok(parameters.filter_map(|parameters| parameters["url"].as_str()).map(str::to_owned).collect())
    }
}

/// Waits for a command to the browser for as long as one may take.
async fn within_limit<T>(command: impl Future<Output = std::result::Result<T, CmdError>>) -> Result<T> {
    let outcome = tokio::time::timeout(COMMAND_WITHIN, command).await;
    Ok(outcome.explain(|| "the browser does not respond".to_owned())??)
}
