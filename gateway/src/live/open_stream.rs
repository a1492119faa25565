//! The streams that the fan-out serves: of one room, or of all rooms of a user.

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;

use super::stream::{LiveStream, ReplayRead};
use super::user_stream::{UserFetched, UserStream};
use crate::fanout::{NextStep, Source, Topic, TopicWaker};

/// An open stream.
pub enum OpenStream {
    /// Of one room.
    Room(Box<LiveStream>),
    /// Of all rooms of a user.
    User(Box<UserStream>),
}

/// What a fetch of either brings.
pub enum Fetched {
    /// For a stream of one room.
    Room(ReplayRead),
    /// For one of all rooms of a user.
    User(UserFetched),
}

impl OpenStream {
    /// The step of one of the two as a step of both.
    fn step<F: Send + 'static>(step: NextStep<F>, wrap: fn(F) -> Fetched) -> NextStep<Fetched> {
        match step {
            NextStep::Write(bytes) => NextStep::Write(bytes),
            NextStep::Fetch(fetch) => NextStep::Fetch(fetch.map(wrap).boxed()),
            NextStep::Follow(changes) => NextStep::Follow(changes),
            NextStep::Wait => NextStep::Wait,
            NextStep::End(bytes) => NextStep::End(bytes),
        }
    }
}

impl Source for OpenStream {
    type Fetched = Fetched;

    fn topics(&self) -> Vec<Topic> {
        match self {
            Self::Room(stream) => stream.topics(),
            Self::User(stream) => stream.topics(),
        }
    }

    fn subscribe(&self, topic: Topic, waker: &Arc<TopicWaker>) {
        match self {
            Self::Room(stream) => stream.subscribe(topic, waker),
            Self::User(stream) => stream.subscribe(topic, waker),
        }
    }

    fn moved(&mut self, topic: Topic) {
        match self {
            Self::Room(stream) => stream.moved(topic),
            Self::User(stream) => stream.moved(topic),
        }
    }

    fn must_end(&self, now: Instant) -> bool {
        match self {
            Self::Room(stream) => stream.must_end(now),
            Self::User(stream) => stream.must_end(now),
        }
    }

    async fn ended(&self) {
        match self {
            Self::Room(stream) => stream.ended().await,
            Self::User(stream) => stream.ended().await,
        }
    }

    fn due(&self) -> Instant {
        match self {
            Self::Room(stream) => stream.due(),
            Self::User(stream) => stream.due(),
        }
    }

    fn next_step(&mut self, now: Instant) -> NextStep<Fetched> {
        match self {
            Self::Room(stream) => Self::step(stream.next_step(now), Fetched::Room),
            Self::User(stream) => Self::step(stream.next_step(now), Fetched::User),
        }
    }

    fn apply(&mut self, fetched: Fetched, now: Instant) {
        match (self, fetched) {
            (Self::Room(stream), Fetched::Room(fetched)) => stream.apply(fetched, now),
            (Self::User(stream), Fetched::User(fetched)) => stream.apply(fetched, now),
            // A stream is given what it has asked for.
            (Self::Room(_), Fetched::User(_)) | (Self::User(_), Fetched::Room(_)) => {}
        }
    }
}
