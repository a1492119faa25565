//! The request that opens a live stream.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};

use crate::failure::{Explain, Failure, Result};
use crate::http_response::HttpResponse;
use crate::sse::EventStream;

/// How long the headers of a response may take.
const OPEN_WITHIN: Duration = Duration::from_secs(15);

/// A stream that is about to be opened.
pub struct StreamRequest {
    request: RequestBuilder,
}

impl StreamRequest {
    pub(crate) fn new(request: RequestBuilder) -> Self {
        Self {
            request: request.header("accept", "text/event-stream"),
        }
    }

    /// Sends `cursor` as `Last-Event-ID`.
    #[must_use]
    pub fn after(self, cursor: &str) -> Self {
        self.header("last-event-id", cursor)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        Self {
            request: self.request.header(name, value),
        }
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(self, name: &str, value: &str) -> Self {
        Self {
            request: self.request.query(&[(name, value)]),
        }
    }

    /// Opens the stream and reads its `ready` event; any other status is a failure.
    pub async fn open(self) -> Result<EventStream> {
        EventStream::new(self.open_raw().await?).await
    }

    /// Opens the stream for reading its bytes; any other status than 200 is a failure.
    pub async fn open_raw(self) -> Result<Response> {
        let response = self.receive_headers().await?;
        if response.status() == 200 {
            return Ok(response);
        }
        let response = HttpResponse::receive(response).await?;
        Err(Failure::new(format!("the stream was refused: {response}")))
    }

    /// Sends the request and receives the whole response: for refusals and streams that end by themselves.
    pub async fn response(self) -> Result<HttpResponse> {
        let receive = async { HttpResponse::receive(self.receive_headers().await?).await };
        tokio::time::timeout(OPEN_WITHIN, receive)
            .await
            .explain(|| "the response did not come to an end".to_owned())?
    }

    async fn receive_headers(self) -> Result<Response> {
        let sending = tokio::time::timeout(OPEN_WITHIN, self.request.send());
        Ok(sending.await.explain(|| "no response to the request for a stream".to_owned())??)
    }
}
