//! Cursors of streams: header and query, and unusable cursors.

use rig::{EventStream, Stack};

use crate::fixture::{SOON, fill, lobby, with_lobby};

async fn next_seq(stream: &mut EventStream) -> i64 {
    stream.message(SOON).await.unwrap().seq().unwrap()
}

#[tokio::test]
async fn cursor_header_takes_precedence_over_query() {
    let (_stack, ann) = lobby().await;
    fill(&ann, 8).await.unwrap();
    let epoch = ann.stream("lobby").open().await.unwrap().ready().id.replace("-9", "");
    let cursor = |seq: i64| format!("{epoch}-{seq}");

    let mut by_header = ann.stream("lobby").after(&cursor(4)).open().await.unwrap();
    assert_eq!(next_seq(&mut by_header).await, 5);
    let mut by_query = ann.stream("lobby").query("last_event_id", &cursor(2)).open().await.unwrap();
    assert_eq!(next_seq(&mut by_query).await, 3);
    let mut by_both = ann.stream("lobby").after(&cursor(6)).query("last_event_id", &cursor(2)).open().await.unwrap();
    assert_eq!(next_seq(&mut by_both).await, 7);

    // A client that has everything misses nothing and is sent nothing.
    let mut complete = ann.stream("lobby").after(&cursor(9)).open().await.unwrap();
    assert_eq!(complete.ready().json().unwrap()["missed"], 0);
    ann.post("lobby", "next").await.unwrap();
    assert_eq!(next_seq(&mut complete).await, 10);
}

#[tokio::test]
async fn unusable_cursor_gets_reset_then_live_messages() {
    let (_stack, ann) = with_lobby(Stack::builder().without_limits().start().await.unwrap()).await;
    fill(&ann, 2).await.unwrap();
    let head = ann.stream("lobby").open().await.unwrap().ready().id.clone();
    let epoch: u64 = head.strip_suffix("-3").unwrap().parse().unwrap();
    // Another room has as many messages and as many predecessors.
    ann.create_room("other").await.unwrap();
    for text in ["1", "2"] {
        ann.post("other", text).await.unwrap();
    }
    let mut other = ann.stream("other").query("last_event_id", "x").open().await.unwrap();
    let cursor_of_another_room = other.expect("reset", SOON).await.unwrap().id.clone();
    let useless = [
        ("x".to_owned(), "malformed"),
        ("17".to_owned(), "malformed"),
        (format!("{epoch}-"), "malformed"),
        (format!("{epoch}--1"), "malformed"),
        (format!("{epoch}-01"), "malformed"),
        (format!("0{epoch}-1"), "malformed"),
        (cursor_of_another_room, "foreign"),
        (format!("{epoch}-1 OR 1=1"), "malformed"),
        (format!("{epoch}-99999999999999999999"), "malformed"),
        ("9".repeat(300), "malformed"),
        (format!("{}-1", epoch ^ 1), "foreign"),
        (format!("{epoch}-4"), "ahead"),
        (format!("{epoch}-{}", i64::MAX), "ahead"),
    ];
    let mut streams = Vec::new();
    for (cursor, reason) in useless {
        let mut stream = ann.stream("lobby").after(&cursor).open().await.unwrap();
        assert_eq!(stream.ready().json().unwrap()["recovered"], false, "{cursor}");
        let reset = stream.expect("reset", SOON).await.unwrap();
        let data = reset.json().unwrap();
        assert_eq!((&data["reason"], &data["head"]), (&reason.into(), &3.into()), "{cursor}");
        assert_eq!(reset.id, head, "{cursor}");
        streams.push(stream);
    }
    ann.post("lobby", "live").await.unwrap();
    for mut stream in streams {
        assert_eq!(next_seq(&mut stream).await, 4);
    }
}
