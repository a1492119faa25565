//! Cache that is invalidated by the changes of any gateway.
//!
//! A gateway announces each change on the control channel, and all gateways forget what it concerns. A change whose
//! announcement is lost is found by [`crate::revocation_watcher`]. Whoever uses a cached value asks first whether the caches are
//! current: see `crate::freshness`.

use std::hash::Hash;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::RwLock;

/// A bounded, expiring cache of something that any gateway may change.
pub struct InvalidatingCache<K, V> {
    cache: Cache<K, V>,
    /// Counts the changes, so that a value that was read before one and arrives after it is not cached. Under the lock the check
    /// of the count and the insertion are one step: nobody finds, even for a moment, what a change has outdated.
    changes: RwLock<u64>,
}

impl<K, V> InvalidatingCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache of at most `capacity` entries, each kept for at most `ttl`; the least used ones are dropped first.
    #[must_use]
    pub fn new(capacity: u64, ttl: Duration) -> Self {
        Self {
            cache: Cache::builder().max_capacity(capacity).time_to_live(ttl).build(),
            changes: RwLock::new(0),
        }
    }

    /// The cached value, or what `load` finds. That nothing was found is not cached.
    pub async fn get_or_load<E>(
        &self,
        key: &K,
        load: impl Future<Output = Result<Option<V>, E>>,
    ) -> Result<Option<V>, E> {
        if let Some(value) = self.cache.get(key) {
            return Ok(Some(value));
        }
        let before = *self.changes.read();
        let found = load.await?;
        if let Some(value) = &found {
            let changes = self.changes.read();
            if *changes == before {
                self.cache.insert(key.clone(), value.clone());
            }
        }
        Ok(found)
    }

    /// Frees what has expired, which otherwise happens only when the cache is used.
    pub fn free_expired(&self) {
        self.cache.run_pending_tasks();
    }

    /// Forgets `key`.
    pub fn forget(&self, key: &K) {
        let mut changes = self.changes.write();
        *changes += 1;
        self.cache.invalidate(key);
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        let mut changes = self.changes.write();
        *changes += 1;
        self.cache.invalidate_all();
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
    async fn a_cached_value_is_not_loaded_again() {
        let cache = cache();
        assert_eq!(load(&cache, None).await, None);
        assert_eq!(load(&cache, Some(7)).await, Some(7));
        assert_eq!(load(&cache, Some(8)).await, Some(7));
        cache.forget(&1);
        assert_eq!(load(&cache, Some(8)).await, Some(8));
    }

    #[tokio::test]
    async fn a_value_outdated_while_loading_is_not_cached() {
        let cache = cache();
        let read = async {
            cache.forget(&1);
            Ok::<_, Infallible>(Some(7))
        };
        assert_eq!(cache.get_or_load(&1, read).await, Ok(Some(7)));
        assert_eq!(load(&cache, Some(8)).await, Some(8));
    }
}
