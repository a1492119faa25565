use fanout_worker::persist::persist;
use shared::domain::Partition;
use shared::storage::PartitionBatch;
use tokio_util::sync::CancellationToken;

use crate::scene::Scene;

#[tokio::test]
async fn what_another_worker_has_taken_is_left_to_it_and_the_rest_is_stored_at_once() {
    let scene = Scene::with_rooms(1).await;
    let room = scene.rooms[0];
    let claims = scene.store.claim(&[Partition(0), Partition(1)], "we").await.unwrap();
    scene.store.claim(&[Partition(1)], "another").await.unwrap();
    let batch = |place: usize, text| PartitionBatch {
        claim: claims[place],
        entries: vec![scene.entry(1, room, text)],
    };
    let batches = vec![batch(0, "ours"), batch(1, "theirs")];
    let persisted = persist(&scene.store, batches, &CancellationToken::new()).await.unwrap();
    assert_eq!(persisted.lost, [Partition(1)]);
    assert_eq!(scene.texts(room, 1).await, ["ours"]);
}

#[tokio::test]
async fn a_batch_whose_commit_was_not_confirmed_is_stored_once() {
    let scene = Scene::with_rooms(1).await;
    let room = scene.rooms[0];
    let claim = scene.store.claim(&[Partition(0)], "we").await.unwrap()[0];
    let batch = PartitionBatch {
        claim,
        entries: vec![scene.entry(1, room, "once")],
    };
    for lost in [vec![], vec![Partition(0)]] {
        let persisted = persist(&scene.store, vec![batch.clone()], &CancellationToken::new()).await.unwrap();
        assert_eq!(persisted.lost, lost);
    }
    assert_eq!(scene.texts(room, 1).await, ["once"]);
    // And whoever claims next goes on behind it.
    assert_eq!(scene.store.claim(&[Partition(0)], "we").await.unwrap()[0].cursor, batch.upto());
}
