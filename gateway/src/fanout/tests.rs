//! Real sockets, and sources that read a list of texts instead of a room.

mod fixture;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use fixture::{Fixture, Room, TestClient, chunk};
use futures_util::future::join_all;

#[tokio::test]
async fn what_is_said_reaches_all_who_follow_and_nobody_else() {
    let fixture = Fixture::new();
    let (lobby, garden) = (Room::new(1), Room::new(2));
    let mut listeners = [fixture.follow(&[&lobby]), fixture.follow(&[&lobby])];
    let mut other = fixture.follow(&[&garden]);
    for text in ["one", "two", "three"] {
        lobby.post(text);
    }
    garden.post("elsewhere");
    for listener in &mut listeners {
        listener.receives(&["one", "two", "three"]);
    }
    other.receives(&["elsewhere"]);
}

#[tokio::test]
async fn what_was_said_before_a_client_came_is_sent_at_once() {
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    lobby.post("early");
    fixture.follow(&[&lobby]).receives(&["early"]);
}

/// The texts are larger than all buffers on the way: the socket takes parts of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_gets_every_byte_in_its_order() {
    const TEXTS: usize = 40;
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let mut slow = fixture.follow(&[&lobby]);
    let texts: Vec<String> = (0..TEXTS).map(|number| format!("{number:03}").repeat(100_000)).collect();
    for text in &texts {
        lobby.post(text);
    }
    // Others are served meanwhile.
    fixture.follow(&[&lobby]).receives(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    slow.receives(&texts.iter().map(String::as_str).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_falls_off_the_ring_reads_on_in_history() {
    const TEXTS: usize = 1_000;
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let texts: Vec<String> = (0..TEXTS).map(|number| number.to_string()).collect();
    let said: Vec<&str> = texts.iter().map(String::as_str).collect();
    // Far more than the ring has.
    said[..TEXTS / 2].iter().for_each(|text| lobby.post(text));
    let mut listener = fixture.follow(&[&lobby]);
    said[TEXTS / 2..].iter().for_each(|text| lobby.post(text));
    listener.receives(&said);
    assert!(lobby.reads_of_history() > 1, "it was to be read page by page");
}

#[tokio::test]
async fn one_connection_follows_many_rooms_with_a_position_of_its_own() {
    let fixture = Fixture::new();
    let (lobby, garden) = (Room::new(1), Room::new(2));
    let mut both = fixture.follow(&[&lobby, &garden]);
    let mut one = fixture.follow(&[&garden]);
    lobby.post("in the lobby");
    both.reads(&[chunk("at 1,0;"), chunk("in the lobby")].concat());
    garden.post("in the garden");
    both.reads(&[chunk("at 1,1;"), chunk("in the garden")].concat());
    one.receives(&["in the garden"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_forgotten_although_nothing_is_said() {
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let listener = fixture.follow(&[&lobby]);
    let half_closed = fixture.follow(&[&lobby]);
    half_closed.socket.shutdown(Shutdown::Write).unwrap();
    drop(listener);
    fixture.wait_for_permits(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_given_up() {
    let fixture = Fixture::with_write_stall(Duration::from_millis(200));
    let lobby = Room::new(1);
    let mut stopped = fixture.follow(&[&lobby]);
    let large = "x".repeat(1_000_000);
    (0..20).for_each(|_| lobby.post(&large));
    fixture.wait_for_permits(0).await;
    // It was reset: what was still on its way is not shown as if it were whole.
    let mut rest = Vec::new();
    assert!(stopped.socket.read_to_end(&mut rest).is_err() || !rest.ends_with(b"0\r\n\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_must_end_does_not_wait_for_a_client_that_takes_nothing() {
    let fixture = Fixture::with_write_stall(Duration::from_mins(10));
    let lobby = Room::new(1);
    let _stopped = fixture.follow(&[&lobby]);
    let large = "x".repeat(1_000_000);
    (0..20).for_each(|_| lobby.post(&large));
    lobby.close();
    fixture.wait_for_permits(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_talks_without_end_is_closed() {
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let mut talker = fixture.follow(&[&lobby]);
    talker.socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    lobby.post("still there");
    talker.receives(&["still there"]);
    // Refused in the middle, or thrown away.
    let _ = talker.socket.write_all(&vec![b'x'; 200_000]);
    fixture.wait_for_permits(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_last_words_and_the_end_of_the_body() {
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let mut listener = fixture.follow(&[&lobby]);
    lobby.post("last words");
    listener.receives(&["last words"]);
    lobby.close();
    let mut rest = Vec::new();
    listener.socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [chunk("bye"), b"0\r\n\r\n".to_vec()].concat());
    drop(listener);
    fixture.wait_for_permits(0).await;
}

/// The client need not close: it is closed for it, after a while.
#[tokio::test(flavor = "multi_thread")]
async fn the_threads_end_with_their_last_client() {
    let mut fixture = Fixture::new();
    let lobby = Room::new(1);
    let mut listener = fixture.follow(&[&lobby]);
    fixture.fanout.close();
    lobby.post("one more");
    listener.receives(&["one more"]);
    lobby.close();
    let threads = fixture.threads.take().unwrap();
    tokio::time::timeout(Duration::from_secs(10), join_all(threads.ends())).await.unwrap();
    assert_eq!(fixture.permits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_hear_everything_in_order() {
    // A descriptor on each side, and some for the rest of the tests.
    let descriptors = rlimit::increase_nofile_limit(24_000).unwrap();
    let clients = 10_000.min(usize::try_from(descriptors).unwrap().saturating_sub(2_000) / 2);
    assert!(clients >= 1_000, "the limit of open files is {descriptors}");
    let fixture = Fixture::new();
    let rooms: Vec<_> = (0..10).map(Room::new).collect();
    let mut listeners: Vec<TestClient> =
        (0..clients).map(|number| fixture.follow(&[&rooms[number % rooms.len()]])).collect();
    let texts: Vec<String> = (0..20).map(|number| format!("text {number}")).collect();
    for text in &texts {
        for room in &rooms {
            room.post(text);
        }
    }
    let said: Vec<&str> = texts.iter().map(String::as_str).collect();
    for listener in &mut listeners {
        listener.receives(&said);
    }
    drop(listeners);
    fixture.wait_for_permits(0).await;
}
