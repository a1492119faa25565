//! Caches that stay true across gateways.
//!
//! What one gateway changes, it tells the others on the control channel, and they forget what they knew. What they are not
//! told of they find out by themselves: see [`crate::revocation_watcher`]. Whoever uses what is cached asks first whether it is
//! current: see `crate::freshness`.

use std::hash::Hash;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use moka::sync::Cache;

/// A bounded, expiring cache of something that any gateway may change.
pub struct InvalidatingCache<K, V> {
    cache: Cache<K, V>,
    /// Counts the changes, so that what was read before one and arrives after it is not kept. The lock makes looking
    /// and keeping one step: even for a moment, nobody finds what a change has outdated.
    changes: RwLock<u64>,
}

impl<K, V> InvalidatingCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache of at most `capacity` entries, each kept for at most `ttl`; the least used ones leave first.
    #[must_use]
    pub fn new(capacity: u64, ttl: Duration) -> Self {
        Self {
            cache: Cache::builder().max_capacity(capacity).time_to_live(ttl).build(),
            changes: RwLock::new(0),
        }
    }

    /// The cached value, or what `load` finds; nothing found is not kept.
    pub async fn get_or_load<E>(
        &self,
        key: &K,
        load: impl Future<Output = Result<Option<V>, E>>,
    ) -> Result<Option<V>, E> {
        if let Some(value) = self.cache.get(key) {
            return Ok(Some(value));
        }
        let before = *self.changes();
        let found = load.await?;
        if let Some(value) = &found {
            let changes = self.changes();
            if *changes == before {
                self.cache.insert(key.clone(), value.clone());
            }
        }
        Ok(found)
    }

    /// Forgets `key`.
    pub fn forget(&self, key: &K) {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        self.cache.invalidate(key);
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        self.cache.invalidate_all();
    }

    fn changes(&self) -> RwLockReadGuard<'_, u64> {
        // A panic cannot leave a count half changed.
        self.changes.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::ready;

    use super::*;

    fn cache() -> InvalidatingCache<u8, u8> {
        InvalidatingCache::new(10, Duration::from_mins(1))
    }

    async fn load(cache: &InvalidatingCache<u8, u8>, value: Option<u8>) -> Option<u8> {
        let loaded: Result<_, Infallible> = cache.get_or_load(&1, ready(Ok(value))).await;
        loaded.unwrap()
    }

    #[tokio::test]
    async fn what_is_known_is_not_read_again() {
        let cache = cache();
        assert_eq!(load(&cache, None).await, None);
        assert_eq!(load(&cache, Some(7)).await, Some(7));
        assert_eq!(load(&cache, Some(8)).await, Some(7));
        cache.forget(&1);
        assert_eq!(load(&cache, Some(8)).await, Some(8));
    }

    #[tokio::test]
    async fn a_change_during_a_read_is_not_overwritten_by_what_was_read() {
        let cache = cache();
        let read = async {
            cache.forget(&1);
            Ok::<_, Infallible>(Some(7))
        };
        assert_eq!(cache.get_or_load(&1, read).await, Ok(Some(7)));
        assert_eq!(load(&cache, Some(8)).await, Some(8));
    }
}
