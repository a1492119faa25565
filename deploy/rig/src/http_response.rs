//! A complete HTTP response.

use std::fmt;

use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::failure::{Explain, Failure, Result};

/// Status, headers and the whole body.
pub struct HttpResponse {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl HttpResponse {
    /// Receives the whole body of `response`.
    pub(crate) async fn receive(response: Response) -> Result<Self> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.bytes().await?.to_vec();
        Ok(Self { status, headers, body })
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value of a header; `None` when it is absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers that are text, with names in lower case; a header that was sent more than once comes as often.
    pub fn headers(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let text = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        self.headers.iter().filter_map(text)
    }

    /// The raw body.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).explain(|| format!("not JSON in {self}"))
    }

    /// The response itself if it has this status; otherwise a failure that shows it.
    pub fn expect(self, status: u16) -> Result<Self> {
        if self.status == status {
            Ok(self)
        } else {
            Err(Failure::new(format!("expected {status}, got {self}")))
        }
    }

    /// Checks that this is an error in the one shape of the contract, with this status and code, and returns the body.
    pub fn expect_error(&self, status: u16, code: &str) -> Result<Value> {
        let body = self.expect_error_shape()?;
        if self.status == status && body["code"] == code {
            Ok(body)
        } else {
            Err(Failure::new(format!("expected {status} {code}, got {self}")))
        }
    }

    /// Checks that this is an error in the one shape of the contract and returns the body.
    pub fn expect_error_shape(&self) -> Result<Value> {
        let problem = |what: &str| Failure::new(format!("{what} in {self}"));
        if self.status < 400 {
            return Err(problem("no error status"));
        }
        if !self.header("content-type").is_some_and(|value| value.starts_with("application/json")) {
            return Err(problem("an error that is not application/json"));
        }
        let body = self.json()?;
        if body["status"] != "fail" {
            return Err(problem("no `status: fail`"));
        }
        for field in ["code", "message", "request_id"] {
            if body[field].as_str().is_none_or(str::is_empty) {
                return Err(problem(&format!("no `{field}`")));
            }
        }
        let needed = match self.status {
            401 => Some("www-authenticate"),
            405 => Some("allow"),
            429 | 503 => Some("retry-after"),
            _ => None,
        };
        match needed {
            Some(header) if self.header(header).is_none() => Err(problem(&format!("no header {header}"))),
            _ => Ok(body),
        }
    }
}

impl fmt::Display for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.text().chars().take(400).collect();
        write!(f, "{} {:?} {shown:?}", self.status, self.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn response(status: u16, content_type: &str, body: &str) -> Result<HttpResponse> {
        let response = http::Response::builder().status(status).header("content-type", content_type);
        HttpResponse::receive(response.body(body.to_owned())?.into()).await
    }

    #[tokio::test]
    async fn only_complete_errors_have_the_error_shape() -> Result<()> {
        let complete = r#"{"status":"fail","code":"not_found","message":"…","request_id":"1"}"#;
        let json = "application/json";
        response(404, json, complete).await?.expect_error(404, "not_found")?;
        for (status, content_type, body, complaint) in [
            (200, json, complete, "no error status"),
            (404, "text/plain", complete, "an error that is not application/json"),
            (404, json, "garbage", "not JSON"),
            (404, json, r#"{"status":"ok"}"#, "no `status: fail`"),
            (404, json, r#"{"status":"fail","message":"…","request_id":"1"}"#, "no `code`"),
            (404, json, r#"{"status":"fail","code":"not_found","message":"","request_id":"1"}"#, "no `message`"),
            (503, json, complete, "no header retry-after"),
        ] {
            let failure = response(status, content_type, body).await?.expect_error_shape().err();
            assert!(failure.is_some_and(|failure| failure.to_string().starts_with(complaint)), "{complaint}");
        }
        Ok(())
    }
}
