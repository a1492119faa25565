//! Real sockets, and sources that read a list of texts instead of a room.

mod scene;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use futures_util::future::join_all;
use scene::{Listening, Room, Scene, chunk};

#[tokio::test]
async fn what_is_said_reaches_all_who_follow_and_nobody_else() {
    let scene = Scene::new();
    let (lobby, garden) = (Room::new(1), Room::new(2));
    let mut listeners = [scene.follow(&[&lobby]), scene.follow(&[&lobby])];
    let mut other = scene.follow(&[&garden]);
    for text in ["one", "two", "three"] {
        lobby.say(text);
    }
    garden.say("elsewhere");
    for listener in &mut listeners {
        listener.hears(&["one", "two", "three"]);
    }
    other.hears(&["elsewhere"]);
}

#[tokio::test]
async fn what_was_said_before_a_client_came_is_sent_at_once() {
    let scene = Scene::new();
    let lobby = Room::new(1);
    lobby.say("early");
    scene.follow(&[&lobby]).hears(&["early"]);
}

/// The texts are larger than all buffers on the way: the socket takes parts of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_gets_every_byte_in_its_order() {
    const TEXTS: usize = 40;
    let scene = Scene::new();
    let lobby = Room::new(1);
    let mut slow = scene.follow(&[&lobby]);
    let texts: Vec<String> = (0..TEXTS).map(|number| format!("{number:03}").repeat(100_000)).collect();
    for text in &texts {
        lobby.say(text);
    }
    // Others are served meanwhile.
    scene.follow(&[&lobby]).hears(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    slow.hears(&texts.iter().map(String::as_str).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_falls_off_the_ring_reads_on_in_history() {
    const TEXTS: usize = 1_000;
    let scene = Scene::new();
    let lobby = Room::new(1);
    let texts: Vec<String> = (0..TEXTS).map(|number| number.to_string()).collect();
    let said: Vec<&str> = texts.iter().map(String::as_str).collect();
    // Far more than the ring has.
    said[..TEXTS / 2].iter().for_each(|text| lobby.say(text));
    let mut listener = scene.follow(&[&lobby]);
    said[TEXTS / 2..].iter().for_each(|text| lobby.say(text));
    listener.hears(&said);
    assert!(lobby.reads_of_history() > 1, "it was to be read piece by piece");
}

#[tokio::test]
async fn one_connection_follows_many_rooms_with_a_position_of_its_own() {
    let scene = Scene::new();
    let (lobby, garden) = (Room::new(1), Room::new(2));
    let mut both = scene.follow(&[&lobby, &garden]);
    let mut one = scene.follow(&[&garden]);
    lobby.say("in the lobby");
    both.reads(&[chunk("at 1,0;"), chunk("in the lobby")].concat());
    garden.say("in the garden");
    both.reads(&[chunk("at 1,1;"), chunk("in the garden")].concat());
    one.hears(&["in the garden"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_forgotten_although_nothing_is_said() {
    let scene = Scene::new();
    let lobby = Room::new(1);
    let listener = scene.follow(&[&lobby]);
    let half_closed = scene.follow(&[&lobby]);
    half_closed.socket.shutdown(Shutdown::Write).unwrap();
    drop(listener);
    scene.wait_for_places(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_given_up() {
    let scene = Scene::with_write_stall(Duration::from_millis(200));
    let lobby = Room::new(1);
    let mut stopped = scene.follow(&[&lobby]);
    let large = "x".repeat(1_000_000);
    (0..20).for_each(|_| lobby.say(&large));
    scene.wait_for_places(0).await;
    // It was reset: what was still on its way is not shown as if it were whole.
    let mut rest = Vec::new();
    assert!(stopped.socket.read_to_end(&mut rest).is_err() || !rest.ends_with(b"0\r\n\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_must_end_does_not_wait_for_a_client_that_takes_nothing() {
    let scene = Scene::with_write_stall(Duration::from_mins(10));
    let lobby = Room::new(1);
    let _stopped = scene.follow(&[&lobby]);
    let large = "x".repeat(1_000_000);
    (0..20).for_each(|_| lobby.say(&large));
    lobby.close();
    scene.wait_for_places(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_talks_without_end_is_closed() {
    let scene = Scene::new();
    let lobby = Room::new(1);
    let mut talker = scene.follow(&[&lobby]);
    talker.socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    lobby.say("still there");
    talker.hears(&["still there"]);
    // Refused in the middle, or thrown away.
    let _ = talker.socket.write_all(&vec![b'x'; 200_000]);
    scene.wait_for_places(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_last_words_and_the_end_of_the_body() {
    let scene = Scene::new();
    let lobby = Room::new(1);
    let mut listener = scene.follow(&[&lobby]);
    lobby.say("last words");
    listener.hears(&["last words"]);
    lobby.close();
    let mut rest = Vec::new();
    listener.socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [chunk("bye"), b"0\r\n\r\n".to_vec()].concat());
    drop(listener);
    scene.wait_for_places(0).await;
}

/// The client need not close: it is closed for it, after a while.
#[tokio::test(flavor = "multi_thread")]
async fn the_threads_end_with_their_last_client() {
    let mut scene = Scene::new();
    let lobby = Room::new(1);
    let mut listener = scene.follow(&[&lobby]);
    scene.fanout.close();
    lobby.say("one more");
    listener.hears(&["one more"]);
    lobby.close();
    let threads = scene.threads.take().unwrap();
    tokio::time::timeout(Duration::from_secs(10), join_all(threads.ends())).await.unwrap();
    assert_eq!(scene.places(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_hear_everything_in_order() {
    // A descriptor on each side, and some for the rest of the tests.
    let descriptors = rlimit::increase_nofile_limit(24_000).unwrap();
    let clients = 10_000.min(usize::try_from(descriptors).unwrap().saturating_sub(2_000) / 2);
    assert!(clients >= 1_000, "the limit of open files is {descriptors}");
    let scene = Scene::new();
    let rooms: Vec<_> = (0..10).map(Room::new).collect();
    let mut listeners: Vec<Listening> =
        (0..clients).map(|number| scene.follow(&[&rooms[number % rooms.len()]])).collect();
    let texts: Vec<String> = (0..20).map(|number| format!("text {number}")).collect();
    for text in &texts {
        for room in &rooms {
            room.say(text);
        }
    }
    let said: Vec<&str> = texts.iter().map(String::as_str).collect();
    for listener in &mut listeners {
        listener.hears(&said);
    }
    drop(listeners);
    scene.wait_for_places(0).await;
}
