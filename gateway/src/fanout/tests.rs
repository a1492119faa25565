//! Real sockets, and sources that read a list of texts instead of a feed.

mod fixture;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use bytes::Bytes;
use fixture::{Fixture, Reader, Room, TestClient, User, chunk};
use futures_util::StreamExt as _;
use futures_util::future::join_all;

use super::body;

#[tokio::test]
async fn a_message_reaches_all_followers_and_nobody_else() {
    let fixture = Fixture::new();
    let (lobby, garden) = (Room::new(1), Room::new(2));
    let mut clients = [fixture.follow(&[&lobby]), fixture.follow(&[&lobby])];
    let mut other = fixture.follow(&[&garden]);
    for text in ["one", "two", "three"] {
        lobby.post(text);
    }
    garden.post("elsewhere");
    for client in &mut clients {
        client.receives(&["one", "two", "three"]);
    }
    other.receives(&["elsewhere"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn source_that_ends_from_outside_is_visited_though_no_topic_moves() {
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let mut clients: Vec<_> = (0..10).map(|_| fixture.follow(&[&lobby])).collect();
    lobby.post("here");
    for client in &mut clients {
        client.receives(&["here"]);
    }
    lobby.close_silently();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fixture.permits(), 10, "nobody looks at sources that are not due");
    fixture.fanout.endings().note();
    for client in &mut clients {
        client.receives(&["bye"]);
    }
}

#[tokio::test]
async fn messages_stored_before_a_client_came_are_sent_at_once() {
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    lobby.post("early");
    fixture.follow(&[&lobby]).receives(&["early"]);
}

/// The texts are larger than all buffers on the way, so the socket accepts parts of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_gets_every_byte_in_order() {
    const TEXTS: usize = 40;
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let mut slow = fixture.follow(&[&lobby]);
    let texts: Vec<String> = (0..TEXTS).map(|number| format!("{number:03}").repeat(100_000)).collect();
    for text in &texts {
        lobby.post(text);
    }
    // Other clients are served meanwhile.
    fixture.follow(&[&lobby]).receives(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    slow.receives(&texts.iter().map(String::as_str).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_behind_the_ring_reads_on_in_history() {
    const TEXTS: usize = 1_000;
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let texts: Vec<String> = (0..TEXTS).map(|number| number.to_string()).collect();
    let posted: Vec<&str> = texts.iter().map(String::as_str).collect();
    // Far more than the ring keeps.
    posted[..TEXTS / 2].iter().for_each(|text| lobby.post(text));
    let mut client = fixture.follow(&[&lobby]);
    posted[TEXTS / 2..].iter().for_each(|text| lobby.post(text));
    client.receives(&posted);
    assert!(lobby.reads_of_history() > 1, "history is read page by page");
}

#[tokio::test]
async fn one_connection_follows_many_rooms_with_its_own_positions() {
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

#[tokio::test]
async fn a_connection_follows_and_drops_rooms_while_it_lives() {
    let fixture = Fixture::new();
    let (lobby, garden) = (Room::new(1), Room::new(2));
    let user = User::new(-1, &[&lobby]);
    let mut client = fixture.adopt(Reader::of(&user));
    // The reader follows a room from its end on: it must have chosen before.
    lobby.has_reader().await;
    lobby.post("one");
    client.receives(&["one"]);
    garden.post("not followed");
    user.choose(&[&lobby, &garden]);
    garden.has_reader().await;
    garden.post("two");
    client.receives(&["two"]);
    lobby.post("three");
    client.receives(&["three"]);
    user.choose(&[&garden]);
    lobby.has_no_reader().await;
    lobby.post("dropped");
    garden.post("four");
    client.receives(&["four"]);
    garden.close();
    client.receives(&["bye"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_followers_of_one_room_are_spread_over_all_threads() {
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let mut clients: Vec<TestClient> = (0..6).map(|_| fixture.follow(&[&lobby])).collect();
    assert_eq!(fixture.connections_by_thread(), [3, 3]);
    lobby.post("everywhere");
    for client in &mut clients {
        client.receives(&["everywhere"]);
    }
    // Those who have left make room, on their thread.
    clients.truncate(1);
    fixture.wait_for_permits(1).await;
    let _others: Vec<TestClient> = (0..5).map(|_| fixture.follow(&[&lobby])).collect();
    assert_eq!(fixture.connections_by_thread(), [3, 3]);
}

#[tokio::test]
async fn a_body_follows_and_drops_rooms_while_it_lives() {
    let (lobby, garden) = (Room::new(1), Room::new(2));
    let user = User::new(-1, &[&lobby]);
    let mut body = Box::pin(body(Reader::of(&user), Bytes::from_static(b"opening")));
    let mut next = async || body.next().await.unwrap().unwrap();
    assert_eq!(next().await, "opening");
    let posting = tokio::spawn({
        let (lobby, garden, user) = (lobby.clone(), garden.clone(), user.clone());
        async move {
            lobby.has_reader().await;
            lobby.post("one");
            user.choose(&[&garden]);
            garden.has_reader().await;
            lobby.post("dropped");
            garden.post("two");
            garden.close();
        }
    });
    let mut received = Vec::new();
    while !received.ends_with(&chunk("bye")) {
        received.extend(next().await);
    }
    // The reader may have dropped the lobby before it read it.
    let later = [chunk("two"), chunk("bye")].concat();
    assert!(received == later || received == [chunk("one"), later].concat(), "{received:?}");
    posting.await.unwrap();
    assert!(body.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_reads_on_in_history() {
    let lobby = Room::new(1);
    let texts: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    for text in &texts {
        lobby.post(text);
    }
    lobby.close();
    let parts: Vec<Bytes> = body(Reader::new(&[&lobby]), Bytes::new()).map(Result::unwrap).collect().await;
    let expected: Vec<u8> = texts.iter().map(String::as_str).chain(["bye"]).flat_map(chunk).collect();
    assert!(parts.concat() == expected);
    assert!(lobby.reads_of_history() > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_silent_room_is_removed() {
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let client = fixture.follow(&[&lobby]);
    let half_closed = fixture.follow(&[&lobby]);
    half_closed.socket.shutdown(Shutdown::Write).unwrap();
    drop(client);
    fixture.wait_for_permits(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_reset() {
    let fixture = Fixture::with_write_stall(Duration::from_millis(200));
    let lobby = Room::new(1);
    let mut stopped = fixture.follow(&[&lobby]);
    let large = "x".repeat(1_000_000);
    (0..20).for_each(|_| lobby.post(&large));
    fixture.wait_for_permits(0).await;
    // It was reset: the client cannot take the rest for a complete body.
    let mut rest = Vec::new();
    assert!(stopped.socket.read_to_end(&mut rest).is_err() || !rest.ends_with(b"0\r\n\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ending_stream_does_not_wait_for_a_stalled_client() {
    let fixture = Fixture::with_write_stall(Duration::from_mins(10));
    let lobby = Room::new(1);
    let _stopped = fixture.follow(&[&lobby]);
    let large = "x".repeat(1_000_000);
    (0..20).for_each(|_| lobby.post(&large));
    lobby.close();
    fixture.wait_for_permits(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_too_much_is_closed() {
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let mut client = fixture.follow(&[&lobby]);
    client.socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    lobby.post("still there");
    client.receives(&["still there"]);
    // The write fails in the middle, or its bytes are discarded.
    let _ = client.socket.write_all(&vec![b'x'; 200_000]);
    fixture.wait_for_permits(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_segment_and_last_chunk() {
    let fixture = Fixture::new();
    let lobby = Room::new(1);
    let mut client = fixture.follow(&[&lobby]);
    lobby.post("the last message");
    client.receives(&["the last message"]);
    lobby.close();
    let mut rest = Vec::new();
    client.socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [chunk("bye"), b"0\r\n\r\n".to_vec()].concat());
    drop(client);
    fixture.wait_for_permits(0).await;
}

/// The client need not close: the server closes after a while.
#[tokio::test(flavor = "multi_thread")]
async fn threads_end_with_their_last_client() {
    let mut fixture = Fixture::new();
    let lobby = Room::new(1);
    let mut client = fixture.follow(&[&lobby]);
    fixture.fanout.close();
    lobby.post("one more");
    client.receives(&["one more"]);
    lobby.close();
    let threads = fixture.threads.take().unwrap();
    tokio::time::timeout(Duration::from_secs(10), join_all(threads.ends())).await.unwrap();
    assert_eq!(fixture.permits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_receive_everything_in_order() {
    // One descriptor for each side of a connection, and some for the other tests.
    let descriptors = rlimit::increase_nofile_limit(24_000).unwrap();
    let count = 10_000.min(usize::try_from(descriptors).unwrap().saturating_sub(2_000) / 2);
    assert!(count >= 1_000, "the limit of open files is {descriptors}");
    let fixture = Fixture::new();
    let rooms: Vec<_> = (0..10).map(Room::new).collect();
    let mut clients: Vec<TestClient> =
        (0..count).map(|number| fixture.follow(&[&rooms[number % rooms.len()]])).collect();
    let texts: Vec<String> = (0..20).map(|number| format!("text {number}")).collect();
    for text in &texts {
        for room in &rooms {
            room.post(text);
        }
    }
    let posted: Vec<&str> = texts.iter().map(String::as_str).collect();
    for client in &mut clients {
        client.receives(&posted);
    }
    drop(clients);
    fixture.wait_for_permits(0).await;
}
