//! A cache: two kinds, in this process or in Redis.
//!
//! It is never a source of truth. What is read may be as old as its time to live, because a deletion can be lost with
//! Redis; what cannot be read is a miss. Values are written after the commit they come from.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::redis::AsyncCommands as _;
use async_trait::async_trait;
use moka::{Expiry, future::Cache as Moka};

use crate::redis_link::RedisLink;

/// One of the two kinds.
#[async_trait]
pub trait Cache: Send + Sync + 'static {
    /// The value, if it is there and can be had at once.
    async fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Keeps a value for at most `ttl`.
    async fn set(&self, key: &str, value: Vec<u8>, ttl: Duration);
    /// Forgets values; one that cannot be reached is forgotten at the end of its time.
    async fn delete(&self, keys: &[String]);
}

/// In this process, bounded by the bytes of keys and values. For one process only: others do not see what it forgets.
pub struct LocalCache {
    entries: Moka<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    value: Arc<[u8]>,
    ttl: Duration,
}

/// Each entry lives as long as it was said to.
struct OwnTime;

impl Expiry<String, Entry> for OwnTime {
    fn expire_after_create(&self, _: &String, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _: &String,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

impl LocalCache {
    /// Holds at most `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let entries = Moka::builder()
            .max_capacity(bytes)
            .weigher(|key: &String, entry: &Entry| {
                u32::try_from(key.len() + entry.value.len()).unwrap_or(u32::MAX)
            })
            .expire_after(OwnTime)
            .build();
        Self { entries }
    }
}

#[async_trait]
impl Cache for LocalCache {
    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let found = self.entries.get(key).await.map(|entry| entry.value.to_vec());
        count("local", found.is_some());
        found
    }

    async fn set(&self, key: &str, value: Vec<u8>, ttl: Duration) {
        self.entries.insert(key.to_owned(), Entry { value: value.into(), ttl }).await;
    }

    async fn delete(&self, keys: &[String]) {
        for key in keys {
            self.entries.invalidate(key).await;
        }
    }
}

/// In Redis, for all processes that share it.
#[derive(Debug, Clone)]
pub struct RedisCache {
    link: RedisLink,
}

impl RedisCache {
    /// A cache behind this link.
    #[must_use]
    pub const fn new(link: RedisLink) -> Self {
        Self { link }
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let key = self.link.key(key);
        let found = self
            .link
            .ask("cache", |mut redis| async move { redis.get::<_, Option<Vec<u8>>>(key).await })
            .await
            .flatten();
        count("redis", found.is_some());
        found
    }

    async fn set(&self, key: &str, value: Vec<u8>, ttl: Duration) {
        let key = self.link.key(key);
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        self.link
            .ask("cache", |mut redis| async move { redis.pset_ex::<_, _, ()>(key, value, millis).await })
            .await;
    }

    async fn delete(&self, keys: &[String]) {
        if keys.is_empty() {
            return;
        }
        let keys: Vec<_> = keys.iter().map(|key| self.link.key(key)).collect();
        self.link.ask("cache", |mut redis| async move { redis.del::<_, ()>(keys).await }).await;
    }
}

fn count(kind: &'static str, hit: bool) {
    let result = if hit { "hit" } else { "miss" };
    metrics::counter!("amends_cache_requests_total", "kind" => kind, "result" => result).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_lives_as_long_as_it_was_said_to() {
        let cache = LocalCache::new(1 << 20);
        cache.set("short", b"a".to_vec(), Duration::from_millis(20)).await;
        cache.set("long", b"b".to_vec(), Duration::from_secs(60)).await;
        cache.set("long", b"c".to_vec(), Duration::from_secs(60)).await;
        assert_eq!(cache.get("short").await.as_deref(), Some(&b"a"[..]));
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert_eq!(cache.get("short").await, None);
        assert_eq!(cache.get("long").await.as_deref(), Some(&b"c"[..]));
        cache.delete(&["long".to_owned(), "absent".to_owned()]).await;
        assert_eq!(cache.get("long").await, None);
    }

    #[tokio::test]
    async fn it_holds_no_more_than_its_bytes() {
        let cache = LocalCache::new(1000);
        for i in 0..100 {
            cache.set(&format!("key-{i}"), vec![0; 93], Duration::from_secs(60)).await;
        }
        cache.entries.run_pending_tasks().await;
        assert!(cache.entries.weighted_size() <= 1000);
    }
}
