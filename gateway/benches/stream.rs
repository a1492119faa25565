//! Cost of a stored message on its way to the sockets, without the kernel: encoding its frame, appending it to the feed of its
//! room, and reading the next segment for the streams.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gateway::live::Framing;
use gateway::live::feed::Feed;
use gateway::live::room_events;
use shared::domain::{Epoch, Partition, RoomEntry, RoomId, Seq, StoredMessage, UserId};
use shared::storage::{Room, RoomHead};

const EPOCH: Epoch = Epoch(0x1234_5678_9abc_def0);
/// A text of about the length that people write.
const TEXT: &str = "a message of about the length that people write, with \"quotes\" and ümläuts";
/// Messages of one event under load.
const BATCH: i64 = 100;

fn messages(seqs: std::ops::RangeInclusive<i64>) -> Vec<RoomEntry> {
    let message = |seq| RoomEntry::Message(StoredMessage::for_tests(seq, TEXT));
    seqs.map(message).collect()
}

/// A feed with the messages up to `head`.
fn feed(head: i64) -> Feed {
    let feed = Feed::new(&Room::for_tests(RoomId(1), "lobby", UserId(1)), EPOCH, Partition(0));
    feed.start(RoomHead::default());
    feed.append(&messages(1..=head));
    feed
}

fn encoding(criterion: &mut Criterion) {
    let message = &messages(1..=1)[0];
    criterion.bench_function("encode a frame", |bencher| {
        bencher.iter(|| room_events::entry(black_box("lobby"), EPOCH, black_box(message)));
    });
}

fn appending(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("take into a feed");
    group.throughput(Throughput::Elements(BATCH.unsigned_abs()));
    let next = messages(2_001..=2_000 + BATCH);
    group.bench_function("an event of 100 messages", |bencher| {
        bencher.iter_batched_ref(|| feed(2_000), |feed| feed.append(black_box(&next)), BatchSize::SmallInput);
    });
    group.finish();
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read from a feed");
    let feed = feed(2_000);
    let read = |cursor| feed.read_after(Seq(cursor), usize::MAX, Framing::Chunked);
    group.bench_function("nothing new", |bencher| bencher.iter(|| read(black_box(2_000))));
    group.bench_function("one message", |bencher| bencher.iter(|| read(black_box(1_999))));
    group.bench_function("50 messages, as the reader before", |bencher| bencher.iter(|| read(black_box(1_950))));
    let mut turn = 0;
    group.bench_function("50 messages, elsewhere than the reader before", |bencher| {
        bencher.iter(|| {
            turn ^= 1;
            read(black_box(1_949 + turn))
        });
    });
    group.finish();
}

criterion_group!(benches, encoding, appending, reading);
criterion_main!(benches);
