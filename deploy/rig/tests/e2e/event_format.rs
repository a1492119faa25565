//! The lines of a stream suit readers that are less careful than the standard: some apply an id as soon as its line arrives,
//! some dispatch an event without data, some keep the id of the last event of any kind.

use futures_util::TryStreamExt as _;
use rig::{ApiClient, Stack, StreamRequest};
use tokio::time::timeout;

use crate::fixture::{SOON, fill, lobby_without_rates, with_lobby};

/// The events of a stream that ends by itself, each as its lines.
async fn blocks(request: StreamRequest) -> Vec<Vec<String>> {
    let body = body(request).await;
    let text = body.strip_suffix("\n\n").unwrap();
    text.split("\n\n").map(|block| block.lines().map(str::to_owned).collect()).collect()
}

async fn body(request: StreamRequest) -> String {
    let response = request.open_raw().await.unwrap();
    // The streams here end by themselves within 9 s.
    let chunks: Vec<_> = timeout(SOON * 2, response.bytes_stream().try_collect()).await.unwrap().unwrap();
    String::from_utf8(chunks.concat()).unwrap()
}

fn line<'a>(block: &'a [String], field: &str) -> Option<(usize, &'a str)> {
    let mut found = block.iter().enumerate().filter_map(|(at, line)| Some((at, line.strip_prefix(field)?)));
    let first = found.next();
    assert!(found.next().is_none(), "{field} twice in {block:?}");
    first
}

/// A client that resumes and one with an unusable cursor, both over HTTP/1.1 and HTTP/2.
#[tokio::test]
async fn every_event_has_data_followed_by_its_id() {
    let stack = Stack::builder().without_rates().gateway("STREAM_HEARTBEAT_S", "1").start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let start = ann.stream("lobby").open().await.unwrap().ready().id.clone();
    fill(&ann, 3).await.unwrap();
    let last = start.replace("-1", "-4");
    let http2 = ApiClient::over_http2(&stack.gateways[0].url()).unwrap().with_token(ann.token());
    for client in [&ann, &http2] {
        for (cursor, kinds) in [
            (start.as_str(), &["ready", "bye"][..]),
            ("of no use", &["ready", "reset", "bye"]),
        ] {
            let blocks = blocks(client.stream("lobby").after(cursor).query("wait_s", "3")).await;
            for block in &blocks {
                let (data, _) = line(block, "data: ").unwrap_or_else(|| panic!("no data in {block:?}"));
                let (id, _) = line(block, "id: ").unwrap_or_else(|| panic!("no id in {block:?}"));
                assert!(data < id, "{block:?}");
            }
            let names: Vec<&str> =
                blocks.iter().filter_map(|block| line(block, "event: ")).map(|(_, name)| name).collect();
            assert!(names.contains(&"ping"), "{names:?}");
            let names: Vec<&str> = names.into_iter().filter(|name| *name != "ping").collect();
            assert_eq!(names, kinds);
            assert!(line(&blocks[0], "retry: ").is_some(), "{:?}", blocks[0]);
            // A reader that keeps the id of the last event of any kind has the position.
            let ids = blocks.iter().filter(|block| line(block, "event: ").is_some_and(|(_, name)| name != "ready"));
            assert!(ids.clone().count() >= 2 && ids.clone().all(|block| line(block, "id: ").unwrap().1 == last));
        }
    }
}

#[tokio::test]
async fn id_never_precedes_its_data_wherever_cut() {
    let (_stack, ann) = lobby_without_rates().await;
    let start = ann.stream("lobby").open().await.unwrap().ready().id.clone();
    fill(&ann, 3).await.unwrap();
    let body = body(ann.stream("lobby").after(&start).query("limit", "3").query("wait_s", "9")).await;
    let seq = |id: &str| -> u64 { id.rsplit_once('-').unwrap().1.parse().unwrap() };
    let mut cuts = 0;
    for cut in 0..body.len() {
        // A reader discards an unfinished line.
        let lines = body[..cut].rsplit_once('\n').map_or("", |(whole, _)| whole);
        let applied = lines.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().map_or(0, seq);
        let messages = lines.lines().filter(|line| line.starts_with("data: {\"id\":")).count() as u64;
        assert!(messages + 1 >= applied, "cut at {cut}: the id {applied}, but {messages} messages");
        cuts += usize::from(applied > 0);
    }
    assert!(cuts > 300, "only {cuts} cuts after the first message");
}

#[tokio::test]
async fn bye_has_retry_time_only_if_reconnecting_helps() {
    let (_stack, ann) = lobby_without_rates().await;
    let bye = async |mut stream: rig::EventStream| stream.expect("bye", SOON).await.unwrap().json().unwrap();
    let bounded = bye(ann.stream("lobby").query("wait_s", "1").open().await.unwrap()).await;
    assert!((2_000..=5_000).contains(&bounded["retry_ms"].as_u64().unwrap()), "{bounded}");
    let stream = ann.stream("lobby").open().await.unwrap();
    ann.logout().await.unwrap();
    let revoked = bye(stream).await;
    assert_eq!((&revoked["reason"], revoked.get("retry_ms")), (&"revoked".into(), None));
}
