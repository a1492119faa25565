//! Paging through the history, and opening a stream at the position of a page.

use rig::{ApiClient, HttpResponse};
use serde_json::Value;

use crate::fixture::{SOON, fill, lobby_without_rates};

async fn page(client: &ApiClient, query: &str) -> (HttpResponse, Vec<i64>) {
    let response = client.get(&format!("/chat/lobby/messagehistory{query}")).await.unwrap().expect(200).unwrap();
    let body = response.json().unwrap();
    let seqs = body.as_array().unwrap().iter().map(|message: &Value| message["seq"].as_i64().unwrap()).collect();
    (response, seqs)
}

fn down(from: i64, to: i64) -> Vec<i64> {
    (to..=from).rev().collect()
}

/// The target of `Link: <…>; rel="next"`.
fn next_link(response: &HttpResponse) -> Option<String> {
    let link = response.header("link")?;
    assert!(link.contains("rel=\"next\""), "{response}");
    let target = link.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(target, _)| target);
    // The link may be absolute; only its path matters here.
    target.map(|target| target[target.find("/chat/").unwrap()..].to_owned())
}

#[tokio::test]
async fn history_is_paged_from_the_newest() {
    let (_stack, ann) = lobby_without_rates().await;
    let (empty, seqs) = page(&ann, "").await;
    assert_eq!((seqs, next_link(&empty)), (Vec::new(), None));
    fill(&ann, 250).await.unwrap();

    let pages = [
        ("", down(251, 152)),
        ("?limit=100", down(251, 152)),
        ("?limit=1", vec![251]),
        ("?limit=3&before=10", vec![9, 8, 7]),
        ("?before=4", vec![3, 2]),
        ("?before=2", Vec::new()),
        ("?before=1000", down(251, 152)),
        ("?after=248", vec![251, 250, 249]),
        ("?after=251", Vec::new()),
        ("?after=100&before=104", vec![103, 102, 101]),
    ];
    for (query, expected) in pages {
        let (response, seqs) = page(&ann, query).await;
        assert_eq!(seqs, expected, "{query}");
        let edge = |name: &str| response.header(name).and_then(|value| value.parse::<i64>().ok());
        let mut edges = [edge("x-first-seq"), edge("x-last-seq")];
        edges.sort_unstable();
        let mut expected_edges = [expected.last().copied(), expected.first().copied()];
        expected_edges.sort_unstable();
        assert_eq!(edges, expected_edges, "{query}: {response}");
    }
    for query in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "before=x",
        "after=x",
        "before=99999999999999999999",
    ] {
        let response = ann.get(&format!("/chat/lobby/messagehistory?{query}")).await.unwrap();
        assert_eq!(response.status(), 400, "{query}: {response}");
        response.expect_error_shape().unwrap();
    }
}

#[tokio::test]
async fn next_links_visit_every_message_once() {
    let (_stack, ann) = lobby_without_rates().await;
    fill(&ann, 250).await.unwrap();
    let mut path = Some("/chat/lobby/messagehistory?limit=60".to_owned());
    let mut seen = Vec::new();
    while let Some(next) = path {
        let response = ann.get(&next).await.unwrap().expect(200).unwrap();
        let body = response.json().unwrap();
        seen.extend(body.as_array().unwrap().iter().map(|message| message["seq"].as_i64().unwrap()));
        path = next_link(&response);
        assert!(seen.len() <= 250, "the links form a cycle");
    }
    assert_eq!(seen, down(251, 2));
}

#[tokio::test]
async fn page_position_opens_stream_without_gap() {
    let (_stack, ann) = lobby_without_rates().await;
    fill(&ann, 20).await.unwrap();
    let (response, seqs) = page(&ann, "?limit=5").await;
    let position = response.header("last-event-id").unwrap().to_owned();
    assert!(position.ends_with(&format!("-{}", seqs[0])), "{response}");
    ann.post("lobby", "between the page and the stream").await.unwrap();
    let mut stream = ann.stream("lobby").after(&position).open().await.unwrap();
    ann.post("lobby", "after the stream was opened").await.unwrap();
    let events = stream.messages(2, SOON).await.unwrap();
    let seqs: Vec<i64> = events.iter().map(|event| event.seq().unwrap()).collect();
    assert_eq!(seqs, [22, 23]);
}
