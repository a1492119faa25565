//! What requests cost that only look at what the gateway knows already: the check of a token, and a page of history as it is
//! encoded, once for all who read it.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gateway::auth::tokens::Tokens;
use gateway::history::Page;
use shared::domain::{SessionId, StoredMessage, Timestamp};
use uuid::Uuid;

const DAY: Duration = Duration::from_hours(24);
/// As long as people write.
const TEXT: &str = "a message of about the length that people write, with \"quotes\" and ümläuts";
/// Messages of a page.
const PAGE: i64 = 100;

fn tokens() -> Tokens {
    Tokens::new(&[(0..32).collect()], DAY)
}

fn checking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("check a token");
    let now = Timestamp::now();
    let issue = || tokens().issue(SessionId(Uuid::new_v4()), "0190b6f0-5b7c-7cc0-a5a5-6f6f6f6f6f6f", now);
    let token = issue();
    group.bench_function("for the first time", |bencher| {
        bencher.iter_batched_ref(tokens, |tokens| tokens.verify(black_box(&token), now), BatchSize::LargeInput);
    });
    let tokens = tokens();
    group.bench_function("again", |bencher| bencher.iter(|| tokens.verify(black_box(&token), now)));
    let others: Vec<String> = (0..10_000).map(|_| issue()).collect();
    let mut turn = 0;
    group.bench_function("again, one of 10,000", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % others.len();
            tokens.verify(black_box(&others[turn]), now)
        });
    });
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let message = |seq| StoredMessage::for_tests(seq, TEXT);
    let messages: Vec<StoredMessage> = (1..=PAGE).map(message).collect();
    let mut group = criterion.benchmark_group("encode a page of history");
    group.throughput(Throughput::Elements(PAGE.unsigned_abs()));
    group.bench_function("of 100 messages", |bencher| {
        let window = shared::storage::Window::Before(shared::domain::Seq(i64::MAX));
        bencher.iter(|| Page::of(black_box("lobby"), black_box(&messages), window));
    });
    group.finish();
}

criterion_group!(benches, checking, encoding);
criterion_main!(benches);
