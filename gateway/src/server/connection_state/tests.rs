//! The state machine without sockets: every arrow of its picture, and what it means for deadlines and budgets.

use super::Event::{
    BeginningRead, BytesReceived, Flushed, Http2Recognized, LastResponseEnded, RequestStarted, SocketPromised,
    SocketTaken,
};
use super::Phase::{HandedOver, HijackBegun, HijackFlushed, HijackPromised, Idle, ReadingHeaders, Running};
use super::*;
use crate::server::client_budget::ClientBudgets;

const PHASES: [Phase; 7] = [
    ReadingHeaders,
    Running,
    Idle,
    HijackPromised,
    HijackBegun,
    HijackFlushed,
    HandedOver,
];

/// A row for each event; its columns are what follows each of [`PHASES`].
#[rustfmt::skip]
const TRANSITIONS: [(Event, [Phase; 7]); 8] = [
    (Http2Recognized,   [Idle,           Running,        Idle,           HijackPromised, HijackBegun,   HijackFlushed, HandedOver]),
    (BytesReceived,     [ReadingHeaders, Running,        ReadingHeaders, HijackPromised, HijackBegun,   HijackFlushed, HandedOver]),
    (RequestStarted,    [Running,        Running,        Running,        HijackPromised, HijackBegun,   HijackFlushed, HandedOver]),
    (LastResponseEnded, [ReadingHeaders, Idle,           Idle,           Idle,           Idle,          Idle,          HandedOver]),
    (SocketPromised,    [ReadingHeaders, HijackPromised, Idle,           HijackPromised, HijackBegun,   HijackFlushed, HandedOver]),
    (BeginningRead,     [ReadingHeaders, Running,        Idle,           HijackBegun,    HijackBegun,   HijackFlushed, HandedOver]),
    (Flushed,           [ReadingHeaders, Running,        Idle,           HijackPromised, HijackFlushed, HijackFlushed, HandedOver]),
    (SocketTaken,       [ReadingHeaders, Running,        Idle,           HijackPromised, HijackBegun,   HandedOver,    HandedOver]),
];

#[test]
fn each_event_leads_from_each_phase_as_the_picture_shows() {
    for (event, followers) in TRANSITIONS {
        for (phase, follower) in PHASES.into_iter().zip(followers) {
            assert_eq!(phase.after(event), follower, "{phase:?} after {event:?}");
        }
    }
}

fn connection() -> Arc<ConnectionState> {
    ConnectionState::new(ConnectionBudget::new(ClientBudgets::new(0), None))
}

fn limits() -> ServerLimits {
    ServerLimits::default()
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_keeps_the_deadline_of_its_first_byte() {
    let (connection, began) = (connection(), Instant::now());
    tokio::time::advance(Duration::from_secs(3)).await;
    connection.on_received(10).unwrap();
    assert_eq!(connection.deadline(&limits(), None), Some(began + limits().header_deadline));
    let stopping = Some(began + Duration::from_secs(2));
    assert_eq!(connection.deadline(&limits(), stopping), Some(began + Duration::from_secs(2) + LAST_REQUEST));
}

#[tokio::test(start_paused = true)]
async fn a_running_request_has_the_deadline_of_its_response_alone() {
    let connection = connection();
    let request = ActiveRequest::start(&connection);
    assert_eq!(connection.deadline(&limits(), Some(Instant::now())), None);
    let by = Instant::now() + Duration::from_secs(40);
    request.send_by(by);
    assert_eq!(connection.deadline(&limits(), None), Some(by));
    tokio::time::advance(Duration::from_secs(5)).await;
    drop(request);
    assert_eq!(connection.deadline(&limits(), None), Some(Instant::now() + limits().idle_deadline));
}

#[tokio::test(start_paused = true)]
async fn the_idle_deadline_counts_from_the_last_of_several_responses() {
    let connection = connection();
    connection.on_http2();
    let (first, second) = (ActiveRequest::start(&connection), ActiveRequest::start(&connection));
    drop(first);
    assert_eq!(connection.deadline(&limits(), None), None);
    tokio::time::advance(Duration::from_secs(9)).await;
    drop(second);
    assert_eq!(connection.deadline(&limits(), None), Some(Instant::now() + limits().idle_deadline));
}

#[test]
fn a_response_is_owed_until_it_is_flushed() {
    let connection = connection();
    assert!(connection.owes_nothing());
    let request = ActiveRequest::start(&connection);
    connection.on_flushed();
    drop(request);
    assert!(!connection.owes_nothing(), "its last bytes may wait in hyper's buffer");
    connection.on_flushed();
    assert!(connection.owes_nothing());
}

/// A handler that tells by its drop whether it was run.
fn hijacker() -> (HijackHandler, Arc<()>) {
    let witness = Arc::new(());
    let held = Arc::clone(&witness);
    (HijackHandler::new(move |_| drop(held)), witness)
}

#[test]
fn the_socket_is_taken_once_and_only_after_the_flush() {
    let connection = connection();
    let request = ActiveRequest::start(&connection);
    connection.promise_socket(hijacker().0);
    connection.on_flushed();
    assert!(connection.take_hijacker().is_none(), "hyper has not read the beginning");
    connection.on_beginning_read();
    assert!(connection.take_hijacker().is_none(), "hyper has not written the beginning");
    connection.on_flushed();
    assert!(connection.take_hijacker().is_some());
    assert!(connection.take_hijacker().is_none());
    drop(request);
    assert_eq!(connection.lock().phase, HandedOver);
}

#[test]
fn a_response_that_ends_early_drops_its_hijacker() {
    let connection = connection();
    let request = ActiveRequest::start(&connection);
    let (hijacker, witness) = hijacker();
    connection.promise_socket(hijacker);
    connection.on_beginning_read();
    assert_eq!(Arc::strong_count(&witness), 2);
    drop(request);
    assert_eq!(Arc::strong_count(&witness), 1);
    assert!(connection.take_hijacker().is_none());
}
