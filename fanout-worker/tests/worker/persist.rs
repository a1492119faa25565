use fanout_worker::persist::{Persisted, StopReason, persist};
use shared::domain::{LogEntryId, Partition};
use shared::storage::{Entry, EntryContent, PartitionBatch};
use tokio_util::sync::CancellationToken;

use crate::fixture::Fixture;

#[tokio::test]
async fn partition_claimed_by_another_worker_is_skipped() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    let claims = fixture.store.claim(&[Partition(0), Partition(1)], "we").await.unwrap();
    fixture.store.claim(&[Partition(1)], "another").await.unwrap();
    let batch = |index: usize, text| PartitionBatch {
        claim: claims[index],
        entries: vec![fixture.entry(1, room, text)],
    };
    let batches = vec![batch(0, "ours"), batch(1, "theirs")];
    let persisted = persist(&fixture.store, batches, &CancellationToken::new()).await;
    assert_eq!(persisted.lost, [Partition(1)]);
    assert_eq!(fixture.texts(room, 1).await, ["ours"]);
}

#[tokio::test]
async fn batch_with_unconfirmed_commit_is_stored_once() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    let claim = fixture.store.claim(&[Partition(0)], "we").await.unwrap()[0];
    let batch = PartitionBatch {
        claim,
        entries: vec![fixture.entry(1, room, "once")],
    };
    for lost in [vec![], vec![Partition(0)]] {
        let persisted = persist(&fixture.store, vec![batch.clone()], &CancellationToken::new()).await;
        assert_eq!(persisted.lost, lost);
    }
    assert_eq!(fixture.texts(room, 1).await, ["once"]);
    // The next claim goes on behind it.
    assert_eq!(fixture.store.claim(&[Partition(0)], "we").await.unwrap()[0].cursor, batch.upto());
}

/// Stores `entries` of partition 0.
async fn store(fixture: &Fixture, entries: Vec<Entry>) -> Persisted {
    let claim = fixture.store.claim(&[Partition(0)], "we").await.unwrap()[0];
    persist(&fixture.store, vec![PartitionBatch { claim, entries }], &CancellationToken::new()).await
}

/// A message that the database refuses.
async fn refused(fixture: &Fixture, ms: i64) -> Entry {
    // NULL is refused as data that does not fit.
    fixture
        .run(
            "CREATE TRIGGER refusal BEFORE INSERT ON messages WHEN NEW.text = 'refused'
             BEGIN UPDATE cursors SET owner = NULL; END",
        )
        .await;
    fixture.entry(ms, fixture.rooms[0], "refused")
}

#[tokio::test]
async fn outage_reports_what_was_stored_before_it() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    // While the worker searches for the refused entry it stores the others; then it stores nothing more.
    fixture
        .run("CREATE TRIGGER away BEFORE INSERT ON dead_letters BEGIN SELECT RAISE(ABORT, 'away'); END")
        .await;
    let persisted = store(&fixture, vec![fixture.entry(1, room, "stored"), refused(&fixture, 2).await]).await;
    assert_eq!(persisted.stopped_by, Some(StopReason::StorageUnavailable));
    let stored: Vec<usize> = persisted.stored.iter().map(|committed| committed.rooms.len()).collect();
    assert_eq!(stored, [1]);
    let first = LogEntryId { ms: 1, counter: 0 };
    let progress = persisted.progress[&Partition(0)];
    assert_eq!((progress.cursor, progress.last), (first, first));
    assert_eq!(fixture.texts(room, 1).await, ["stored"]);
}

#[tokio::test]
async fn too_large_dead_letter_keeps_size_and_hash() {
    let fixture = Fixture::with_rooms(1).await;
    // NULL is refused as data that does not fit.
    fixture
        .run(
            "CREATE TRIGGER small BEFORE INSERT ON dead_letters WHEN length(NEW.entry) > 1000
             BEGIN UPDATE cursors SET owner = NULL; END",
        )
        .await;
    let large = Entry {
        log_entry_id: LogEntryId { ms: 1, counter: 0 },
        content: EntryContent::DeadLetter {
            reason: "field 'id' is missing".to_owned(),
            entry: "x".repeat(5_000),
        },
    };
    let persisted = store(&fixture, vec![large]).await;
    assert_eq!((persisted.stopped_by, persisted.stored.len()), (None, 1));
    let letter = fixture.store.dead_letters(0, 2).await.unwrap().remove(0);
    assert_eq!(letter.reason, "field 'id' is missing");
    assert!(letter.entry.starts_with(r#"{"bytes":5000,"sha256":""#), "{}", letter.entry);
}

#[tokio::test]
async fn database_without_room_for_dead_letters_counts_as_away() {
    let fixture = Fixture::with_rooms(1).await;
    fixture
        .run("CREATE TRIGGER none BEFORE INSERT ON dead_letters BEGIN UPDATE cursors SET owner = NULL; END")
        .await;
    let persisted = store(&fixture, vec![refused(&fixture, 1).await]).await;
    assert_eq!((persisted.stopped_by, persisted.stored.len()), (Some(StopReason::StorageUnavailable), 0));
}
