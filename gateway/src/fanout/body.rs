//! A source as the body of an HTTP library: for HTTP/2, and wherever the socket cannot be hijacked.
//!
//! The task of the request takes the place of a thread: it follows the topics of one source, and sleeps in a [`Notify`].

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use futures_util::{FutureExt as _, Stream};
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::topic_wakers::{Sleeper, TopicWaker};
use super::wake::WakeSignal;
use super::{NextStep, Source, Topic, TopicChanges};

/// The bytes of `source`, after `opening`, its first ones. What they are framed in is up to the source.
pub fn body<S: Source>(source: S, opening: Bytes) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    let mut body = SourceBody::new(source, opening);
    body.follow(body.source.topics());
    unfold(body, |mut body| async move {
        let bytes = body.next().await?;
        Some((Ok(bytes), body))
    })
}

struct SourceBody<S: Source> {
    source: S,
    opening: Option<Bytes>,
    has_ended: bool,
    /// The topics it follows, each with its waker.
    topics: Slab<(Topic, Arc<TopicWaker>)>,
    signal: Arc<WakeSignal<Sleeper>>,
    woken: Arc<Notify>,
    /// What the source waits for, if it does.
    fetch: Option<BoxFuture<'static, S::Fetched>>,
}

impl<S: Source> SourceBody<S> {
    fn new(source: S, opening: Bytes) -> Self {
        let woken = Arc::new(Notify::new());
        Self {
            source,
            opening: Some(opening),
            has_ended: false,
            topics: Slab::new(),
            signal: Arc::new(WakeSignal::new(Sleeper::Task(Arc::clone(&woken)))),
            woken,
            fetch: None,
        }
    }

    /// The next bytes to send; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        while !self.has_ended {
            self.signal.mark_awake();
            self.note_moved();
            match self.source.next_step(Instant::now()) {
                NextStep::Write(bytes) => return Some(bytes),
                NextStep::End(bytes) => {
                    self.has_ended = true;
                    return Some(bytes);
                }
                NextStep::Follow(TopicChanges { dropped, added }) => {
                    self.topics.retain(|_, (topic, _)| !dropped.contains(topic));
                    self.follow(added);
                }
                NextStep::Fetch(fetch) => self.fetch = Some(fetch),
                NextStep::Wait => self.wait().await,
            }
        }
        None
    }

    fn follow(&mut self, topics: Vec<Topic>) {
        for topic in topics {
            if self.topics.iter().any(|(_, (known, _))| *known == topic) {
                continue;
            }
            let vacant = self.topics.vacant_entry();
            let waker = Arc::new(TopicWaker::new(self.signal.topic(vacant.key())));
            vacant.insert((topic, Arc::clone(&waker)));
            self.source.subscribe(topic, &waker);
            // What came before wakes nobody.
            self.source.moved(topic);
        }
    }

    fn note_moved(&mut self) {
        for index in self.signal.drain_moved() {
            // It may be dropped by now, or be another topic.
            if let Some((topic, waker)) = self.topics.get(index) {
                // Before the source is asked: see the module `wake`.
                waker.rearm();
                self.source.moved(*topic);
            }
        }
    }

    /// Waits until the source has something to send or to do.
    async fn wait(&mut self) {
        if !self.signal.begin_sleep(|| true) {
            return;
        }
        let due = self.source.due().into();
        let fetch = &mut self.fetch;
        let fetched = poll_fn(|context| match fetch {
            Some(fetch) => fetch.poll_unpin(context),
            None => Poll::Pending,
        });
        tokio::select! {
            fetched = fetched => {
                self.fetch = None;
                self.source.apply(fetched, Instant::now());
            }
            () = self.woken.notified() => {}
            () = self.source.ended() => {}
            () = sleep_until(due) => {}
        }
    }
}
