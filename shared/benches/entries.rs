//! Measures encoding an entry of the accept log, as the gateway does, and decoding it, as the worker does.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use shared::bus::{KeySpace, MacKey, decode_entry, encode_message};
use shared::domain::{Accepted, MessageId, MessageText, RoomId, Timestamp, UserId};

/// A text of ordinary length.
const TEXT: &str = "a message of about the length that people write, with \"quotes\" and ümläuts";

const NOW: Timestamp = Timestamp(1_630_288_695_856);

fn message() -> Accepted {
    Accepted {
        id: MessageId::fresh(),
        room: RoomId(42),
        sender: UserId(4_711),
        text: MessageText::parse(TEXT).expect("a short text is one"),
        in_reply_to: None,
        mentions: Vec::new(),
        created_on: NOW,
        reply_to: None,
    }
}

fn entries(criterion: &mut Criterion) {
    let message = message();
    let keys = KeySpace::new("00a1b2c3d4e5".parse().expect("twelve digits"), 16, MacKey::fresh());
    criterion.bench_function("encode an entry", |bencher| {
        bencher.iter(|| encode_message(black_box(&message), &keys).len());
    });
    let fields = encode_message(&message, &keys);
    let raw: Vec<(Vec<u8>, Vec<u8>)> =
        fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
    criterion.bench_function("decode an entry", |bencher| bencher.iter(|| decode_entry(black_box(&raw), &keys, NOW)));
}

criterion_group!(benches, entries);
criterion_main!(benches);
