//! The lines of a stream, for readers that are less careful than the standard: some take an id when its line arrives,
//! some dispatch a block without data, some keep the id of the last event whatever it was.

use futures_util::TryStreamExt as _;
use rig::{App, Stack, StreamRequest};

use crate::scene::{busy_lobby, fill, furnish};

/// The events of a stream that ends by itself, each as its lines.
async fn blocks(request: StreamRequest) -> Vec<Vec<String>> {
    let body = body(request).await;
    let text = body.strip_suffix("\n\n").unwrap();
    text.split("\n\n").map(|block| block.lines().map(str::to_owned).collect()).collect()
}

async fn body(request: StreamRequest) -> String {
    let pieces: Vec<_> = request.open_raw().await.unwrap().bytes_stream().try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

fn line<'a>(block: &'a [String], field: &str) -> Option<(usize, &'a str)> {
    let mut found = block.iter().enumerate().filter_map(|(at, line)| Some((at, line.strip_prefix(field)?)));
    let first = found.next();
    assert!(found.next().is_none(), "{field} twice in {block:?}");
    first
}

/// One who comes back, one whose cursor is of no use, both over HTTP/1.1 and HTTP/2.
#[tokio::test]
async fn every_block_has_data_and_its_id_behind_it() {
    let stack = Stack::builder().without_rates().gateway("STREAM_HEARTBEAT_S", "1").start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    let start = ann.stream("lobby").open().await.unwrap().ready().id.clone();
    fill(&ann, 3).await.unwrap();
    let last = start.replace("-0", "-3");
    let http2 = App::over_http2(&stack.gateways[0].url()).unwrap().with_token(ann.token());
    for app in [&ann, &http2] {
        for (cursor, kinds) in [
            (start.as_str(), &["ready", "bye"][..]),
            ("of no use", &["ready", "reset", "bye"]),
        ] {
            let blocks = blocks(app.stream("lobby").after(cursor).query("wait_s", "3")).await;
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
            // Who keeps the id of whatever came last has the position.
            let ids = blocks.iter().filter(|block| line(block, "event: ").is_some_and(|(_, name)| name != "ready"));
            assert!(ids.clone().count() >= 2 && ids.clone().all(|block| line(block, "id: ").unwrap().1 == last));
        }
    }
}

#[tokio::test]
async fn an_id_never_arrives_before_its_data_wherever_a_stream_is_cut() {
    let (_stack, ann) = busy_lobby().await;
    let start = ann.stream("lobby").open().await.unwrap().ready().id.clone();
    fill(&ann, 3).await.unwrap();
    let body = body(ann.stream("lobby").after(&start).query("limit", "3").query("wait_s", "9")).await;
    let seq = |id: &str| -> u64 { id.rsplit_once('-').unwrap().1.parse().unwrap() };
    let mut cuts = 0;
    for cut in 0..body.len() {
        // An unfinished line is thrown away.
        let lines = body[..cut].rsplit_once('\n').map_or("", |(whole, _)| whole);
        let taken = lines.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().map_or(0, seq);
        let messages = lines.lines().filter(|line| line.starts_with("data: {\"id\":")).count() as u64;
        assert!(messages >= taken, "cut at {cut}: the id {taken}, but {messages} messages");
        cuts += usize::from(taken > 0);
    }
    assert!(cuts > 300, "only {cuts} cuts behind the first message");
}

#[tokio::test]
async fn bye_says_when_to_come_back_where_that_is_of_use() {
    let (_stack, ann) = busy_lobby().await;
    let bye =
        async |mut stream: rig::EventStream| stream.expect("bye", crate::scene::SOON).await.unwrap().json().unwrap();
    let bounded = bye(ann.stream("lobby").query("wait_s", "1").open().await.unwrap()).await;
    assert!((2_000..=5_000).contains(&bounded["retry_ms"].as_u64().unwrap()), "{bounded}");
    let stream = ann.stream("lobby").open().await.unwrap();
    ann.logout().await.unwrap();
    let revoked = bye(stream).await;
    assert_eq!((&revoked["reason"], revoked.get("retry_ms")), (&"revoked".into(), None));
}
