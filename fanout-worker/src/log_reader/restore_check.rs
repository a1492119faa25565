//! Detects a database that was restored from a backup, by the watermark that Redis remembers.
//!
//! Trimmed entries are in SQL alone. So a database that has not come as far as Redis remembers was restored from a backup, and
//! what lies between is lost. The worker notices that before it stores anything more, and begins a new epoch: clients with a
//! position of the lost history then learn of it, instead of never receiving what gets the same positions.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, RedisError};
use shared::bus::{KeySpace, StoredWatermark};
use shared::storage::{Claim, Store, StoreError};
use tracing::error;
use uuid::Uuid;

/// How long nothing is stored after a new epoch has begun: twice as long as gateways take to notice it.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// Why the check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    /// Redis failed.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// SQL failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a database that is at `now` has lost entries that it had at `remembered`, and no epoch has begun for that yet.
///
/// In a later epoch a lower position is not a loss: had anything of that epoch been trimmed, Redis would remember its number. So
/// the epoch is that of the restore which moved the position back, begun by whichever worker noticed it first.
fn is_behind(now: StoredWatermark, remembered: StoredWatermark) -> bool {
    now < remembered
}

/// Begins a new epoch if SQL is behind what Redis remembers of one of `claims`; returns the number of the epoch.
pub(super) async fn check(
    store: &Store,
    connection: &mut MultiplexedConnection,
    keys: &KeySpace,
    claims: impl Iterator<Item = &Claim> + Clone,
) -> Result<i64, CheckError> {
    let (epoch, number) = store.epoch().await?;
    let (mut behind, mut newest) = (0_usize, number);
    for claim in claims.clone() {
        let raw: Option<Vec<u8>> = connection.get(keys.stored_watermark(claim.partition)).await?;
        let Some(raw) = raw else {
            continue;
        };
        // A watermark that does not decode was written by another party, by another version, or under the key of a database that
        // is gone.
        let remembered = match StoredWatermark::decode(&String::from_utf8_lossy(&raw), claim.partition, keys) {
            Ok(Some(remembered)) => remembered,
            Ok(None) => continue,
            Err(error) => {
                error.report("stored position");
                continue;
            }
        };
        let now = StoredWatermark {
            epoch_number: number,
            upto: claim.cursor,
        };
        if is_behind(now, remembered) {
            behind += 1;
            newest = newest.max(remembered.epoch_number);
        }
    }
    if behind == 0 {
        return Ok(number);
    }
    // SQL refuses this if another worker has just done the same.
    if store.begin_epoch(epoch, newest + 1, Uuid::new_v4().as_u64_pair().0).await? {
        error!(
            partitions = behind,
            "the database is behind what Redis remembers in {behind} partitions: it was restored from a backup, and what \
             was stored since is lost. A new epoch begins: all clients load their history anew"
        );
    }
    tokio::time::sleep(NOTICED_WITHIN).await;
    let (_, number) = store.epoch().await?;
    for claim in claims {
        let now = StoredWatermark {
            epoch_number: number,
            upto: claim.cursor,
        };
        let remembered = now.encode(claim.partition, keys);
        let _ok: () = connection.set(keys.stored_watermark(claim.partition), remembered).await?;
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use shared::domain::{LogEntryId, Partition};
    use shared::storage::Role;

    use super::*;

    fn at(epoch_number: i64, ms: i64) -> StoredWatermark {
        StoredWatermark {
            epoch_number,
            upto: LogEntryId { ms, counter: 0 },
        }
    }

    /// An installation of two partitions, both claimed, in which nothing is stored.
    struct Fixture {
        store: Store,
        keys: KeySpace,
        claims: Vec<Claim>,
        redis: MultiplexedConnection,
        _server: rig::RedisServer,
        _directory: tempfile::TempDir,
    }

    async fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let server = rig::RedisServer::start(directory.path()).await.unwrap();
        let url = format!("sqlite://{}", directory.path().join("roomcast.db").display());
        let store = Store::open(&url, Role::Worker).await.unwrap();
        Fixture {
            keys: store.migrate(2, 1).await.unwrap().key_space(),
            claims: store.claim(&[Partition(0), Partition(1)], "worker").await.unwrap(),
            redis: server.connect().await.unwrap(),
            store,
            _server: server,
            _directory: directory,
        }
    }

    #[test]
    fn database_is_behind_by_position_or_epoch() {
        assert!(!is_behind(at(1, 5), at(1, 5)));
        assert!(!is_behind(at(2, 6), at(1, 5)));
        assert!(is_behind(at(1, 4), at(1, 5)));
        assert!(!is_behind(at(2, 4), at(1, 5)), "the epoch of this restore has begun");
        assert!(is_behind(at(1, 6), at(2, 5)), "it was restored before, and again to the same backup");
    }

    #[tokio::test]
    async fn one_restore_begins_one_epoch() {
        let mut fixture = fixture().await;
        let Fixture {
            store,
            keys,
            claims,
            redis,
            ..
        } = &mut fixture;
        for claim in &*claims {
            let remembered = at(1, 5).encode(claim.partition, keys);
            let () = redis.set(keys.stored_watermark(claim.partition), remembered).await.unwrap();
        }
        let mut epochs = vec![store.epoch().await.unwrap()];
        for claim in &*claims {
            let number = check(store, redis, keys, std::iter::once(claim)).await.unwrap();
            epochs.push(store.epoch().await.unwrap());
            assert_eq!(number, 2);
        }
        assert!(epochs[0] != epochs[1] && epochs[1] == epochs[2], "{epochs:?}");
    }

    /// A wrong epoch would reach all clients, and stay in SQL.
    #[tokio::test]
    async fn forged_watermark_begins_no_epoch() {
        let mut fixture = fixture().await;
        let Fixture {
            store,
            keys,
            claims,
            redis,
            ..
        } = &mut fixture;
        let before = store.epoch().await.unwrap();
        let forged = [
            "1 99999999999998-0".to_owned(),
            format!("{} 99999999999998-0", i64::MAX),
            // Genuine, and of another partition.
            at(1, 5).encode(Partition(0), keys),
        ];
        for value in forged {
            let () = redis.set(keys.stored_watermark(Partition(1)), value).await.unwrap();
            let number = check(store, redis, keys, claims.iter()).await.unwrap();
            assert_eq!((store.epoch().await.unwrap(), number), (before, before.1));
        }
    }
}
