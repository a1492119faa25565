//! Measures splitting a batch into transactions, which the worker does between reading and storing it.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fanout_worker::batch::split;
use fanout_worker::persist::{MAX_BYTES, MAX_ROWS};
use shared::domain::{Accepted, Fence, LogEntryId, MessageId, MessageText, Partition, RoomId, Timestamp, UserId};
use shared::storage::{Claim, Entry, EntryContent, PartitionBatch};

/// A full read: so many partitions with so many entries each.
const PARTITIONS: u16 = 16;
const ENTRIES: u16 = 250;

fn batch(partition: u16) -> PartitionBatch {
    let entry = |counter: u16| Entry {
        log_entry_id: LogEntryId {
            ms: 1,
            counter: counter.into(),
        },
        content: EntryContent::Message(Accepted {
            id: MessageId::fresh(),
            room: RoomId(partition.into()),
            sender: UserId(1),
            text: MessageText::parse("a message of about the length that people write").expect("a short text is one"),
            in_reply_to: None,
            mentions: Vec::new(),
            created_on: Timestamp(1_630_288_695_856),
            reply_to: None,
        }),
    };
    PartitionBatch {
        claim: Claim {
            partition: Partition(partition),
            fence: Fence(1),
            cursor: LogEntryId::ZERO,
        },
        entries: (1..=ENTRIES).map(entry).collect(),
    }
}

fn splitting(criterion: &mut Criterion) {
    let read: Vec<PartitionBatch> = (0..PARTITIONS).map(batch).collect();
    let mut group = criterion.benchmark_group("cut into transactions");
    group.throughput(Throughput::Elements(u64::from(PARTITIONS) * u64::from(ENTRIES)));
    group.bench_function("a full read", |bencher| {
        bencher.iter_batched(
            || read.clone(),
            |read| split(black_box(read), MAX_ROWS, MAX_BYTES),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, splitting);
criterion_main!(benches);
