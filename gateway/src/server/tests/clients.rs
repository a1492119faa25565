//! A server on a port of its own, its clients and endpoints.

use std::{error::Error, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use poem::{Body, Response, endpoint::make_sync};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::super::{Proxies, ServerLimits, serve};
use crate::api::cors::Cors;
use crate::api::refusal_responses::RefusalResponses;

pub(super) type TestResult<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The longest anything may take before a test gives up; never how long a passing test waits.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn eventually<T>(what: impl Future<Output = T>) -> TestResult<T> {
    Ok(timeout(PATIENCE, what).await?)
}

/// The origin whose pages may read what the server refuses.
pub(super) const LISTED_ORIGIN: &str = "https://chat.example.org";

/// A running server with both of its stop signals. Dropping it stops it hard.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) soft: CancellationToken,
    pub(super) hard: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start<F>(limits: ServerLimits, endpoint: F) -> TestResult<Self>
    where
        F: Fn(poem::Request) -> Response + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
        let refusals = Arc::new(RefusalResponses::new(Cors::new(&[LISTED_ORIGIN.to_owned()])));
        let task = tokio::spawn(serve(
            listener,
            (make_sync(endpoint), refusals),
            limits,
            Proxies::none(),
            soft.clone(),
            hard.clone(),
        ));
        Ok(Self {
            address,
            soft,
            hard,
            task,
        })
    }

    pub(super) async fn connect(&self) -> TestResult<Client> {
        Ok(Client {
            stream: TcpStream::connect(self.address).await?,
            unread: Vec::new(),
        })
    }

    pub(super) async fn connect_http2(&self) -> TestResult<Http2Client> {
        self.connect_http2_with(|_| {}).await
    }

    pub(super) async fn connect_http2_with(
        &self,
        settings: impl FnOnce(&mut hyper::client::conn::http2::Builder<TokioExecutor>),
    ) -> TestResult<Http2Client> {
        let stream = TcpStream::connect(self.address).await?;
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        settings(&mut builder);
        let (requests, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Http2Client {
            requests,
            connection: tokio::spawn(connection),
        })
    }

    /// Waits until `serve` has returned.
    pub(super) async fn stopped(&mut self) -> TestResult {
        Ok(eventually(&mut self.task).await??)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.soft.cancel();
        self.hard.cancel();
    }
}

/// An HTTP/1.1 client that sends given text, byte for byte.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    unread: Vec<u8>,
}

/// A response with a content length.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: String,
    pub(super) body: String,
}

impl Answer {
    /// Checks that this is a JSON error of the product with `code` and an id.
    pub(super) fn assert_error(&self, code: &str) -> TestResult {
        assert!(self.headers.contains("content-type: application/json; charset=utf-8\r\n"), "{}", self.headers);
        let error: serde_json::Value = serde_json::from_str(&self.body)?;
        assert_eq!((&error["status"], &error["code"]), (&"fail".into(), &code.into()));
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        uuid::Uuid::parse_str(error["request_id"].as_str().ok_or("no request_id")?)?;
        Ok(())
    }
}

impl Client {
    /// A client of a connection that was made without an await.
    pub(super) fn from_std(stream: std::net::TcpStream) -> TestResult<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: TcpStream::from_std(stream)?,
            unread: Vec::new(),
        })
    }

    pub(super) async fn send(&mut self, text: &str) -> TestResult {
        Ok(eventually(self.stream.write_all(text.as_bytes())).await??)
    }

    /// Reads until `end` has come, and returns everything up to its end.
    pub(super) async fn until(&mut self, end: &str) -> TestResult<String> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end.as_bytes()) {
                return self.take(at + end.len());
            }
            if eventually(self.stream.read_buf(&mut self.unread)).await?? == 0 {
                return Err(format!("closed after {:?}", String::from_utf8_lossy(&self.unread)).into());
            }
        }
    }

    pub(super) async fn answer(&mut self) -> TestResult<Answer> {
        let headers = self.until("\r\n\r\n").await?;
        let status = headers.get(9..12).ok_or("no status line")?.parse()?;
        let length = headers.split("content-length: ").nth(1).ok_or("no content length")?;
        let length: usize = length.split("\r\n").next().ok_or("no content length")?.parse()?;
        while self.unread.len() < length {
            if eventually(self.stream.read_buf(&mut self.unread)).await?? == 0 {
                return Err("closed in the middle of a body".into());
            }
        }
        Ok(Answer {
            status,
            headers,
            body: self.take(length)?,
        })
    }

    /// Waits until the server closes, and demands that nothing comes before.
    pub(super) async fn closed(&mut self) -> TestResult {
        let mut rest = std::mem::take(&mut self.unread);
        let end = eventually(self.stream.read_to_end(&mut rest)).await?;
        assert_eq!(String::from_utf8_lossy(&rest), "", "bytes before the end");
        match end {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn take(&mut self, length: usize) -> TestResult<String> {
        Ok(String::from_utf8(self.unread.drain(..length).collect())?)
    }
}

/// A client of HTTP/2 without TLS, which knows beforehand that the server speaks it.
pub(super) struct Http2Client {
    requests: hyper::client::conn::http2::SendRequest<Empty<Bytes>>,
    /// Ends when the server has closed.
    pub(super) connection: JoinHandle<hyper::Result<()>>,
}

impl Http2Client {
    /// The headers of an answer whose body is left where it is.
    pub(super) async fn answer_headers(&mut self, path: &str) -> TestResult<http::Response<hyper::body::Incoming>> {
        let request = Request::get(format!("http://test{path}")).body(Empty::new())?;
        Ok(eventually(self.requests.send_request(request)).await??)
    }

    pub(super) async fn get(&mut self, path: &str) -> TestResult<(StatusCode, String)> {
        let request = Request::get(format!("http://test{path}")).body(Empty::new())?;
        let response = eventually(self.requests.send_request(request)).await??;
        let status = response.status();
        let body = eventually(response.into_body().collect()).await??.to_bytes();
        Ok((status, String::from_utf8(body.to_vec())?))
    }
}

/// Answers everything with `hello`.
pub(super) fn greeting(_: poem::Request) -> Response {
    Response::builder().body("hello")
}

/// An endpoint whose body sends `first` and then nothing more, and a signal when such a body is dropped.
pub(super) fn silent_stream() -> (impl Fn(poem::Request) -> Response, mpsc::Receiver<()>) {
    guarded(|| stream::once(async { Ok(Bytes::from_static(b"first")) }).chain(stream::pending()).boxed())
}

/// An endpoint whose body never ends and is always ready, and a signal when such a body is dropped.
pub(super) fn endless_stream() -> (impl Fn(poem::Request) -> Response, mpsc::Receiver<()>) {
    guarded(|| stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 16 * 1024]))).boxed())
}

type Chunks = Pin<Box<dyn stream::Stream<Item = io::Result<Bytes>> + Send>>;

fn guarded(chunks: fn() -> Chunks) -> (impl Fn(poem::Request) -> Response, mpsc::Receiver<()>) {
    let (dropped, seen) = mpsc::channel(1);
    let endpoint = move |_: poem::Request| {
        let guard = Guard(dropped.clone());
        let chunks = chunks().map(move |chunk| {
            let _ = &guard;
            chunk
        });
        Response::builder().body(Body::from_bytes_stream(chunks))
    };
    (endpoint, seen)
}

/// Sends a signal when it is dropped; tests look for the first one only.
struct Guard(mpsc::Sender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}
