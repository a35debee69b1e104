//! A rate limiter: two kinds, in this process or in Redis. Both are GCRA: one time per key, no buckets to refill.
//!
//! Redis away: this process limits by itself, which is looser by the number of processes and never stricter. Nothing
//! that must be true (money, at most once) may rest on a limiter.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ::redis::Script;
use async_trait::async_trait;
use tokio::time::Instant;

use crate::redis_link::RedisLink;

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Takes per second in the long run; zero counts as one.
    pub per_second: u32,
    /// Takes at once after a pause; zero counts as one.
    pub burst: u32,
}

impl Limit {
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }

    fn tolerance(self) -> Duration {
        self.interval() * self.burst.max(1)
    }
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Go on.
    Allowed,
    /// Not now.
    Denied {
        /// The earliest time at which one is allowed again.
        retry_after: Duration,
    },
}

/// One of the two kinds.
#[async_trait]
pub trait Limiter: Send + Sync + 'static {
    /// Takes one for `key`, if the limit lets it.
    async fn take(&self, key: &str, limit: Limit) -> Taken;
}

/// In this process, for one process only.
#[derive(Debug, Default)]
pub struct LocalLimiter {
    times: Mutex<Times>,
}

/// The "theoretical arrival time" of each key. A key whose time has passed says nothing and is swept out; so there are
/// never more keys than were taken within the longest tolerance, twice over.
#[derive(Debug, Default)]
struct Times {
    by_key: HashMap<String, Instant>,
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 1024;

impl LocalLimiter {
    /// Nobody has taken anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn take_at(&self, key: &str, limit: Limit, now: Instant) -> Taken {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let arrival = times.by_key.get(key).copied().filter(|time| *time > now).unwrap_or(now);
        let next = arrival + limit.interval();
        let ahead = next.duration_since(now);
        if ahead > limit.tolerance() {
            return Taken::Denied { retry_after: ahead.saturating_sub(limit.tolerance()) };
        }
        times.by_key.insert(key.to_owned(), next);
        if times.by_key.len() > times.sweep_at.max(FIRST_SWEEP) {
            times.by_key.retain(|_, time| *time > now);
            times.sweep_at = times.by_key.len() * 2;
        }
        Taken::Allowed
    }
}

#[async_trait]
impl Limiter for LocalLimiter {
    async fn take(&self, key: &str, limit: Limit) -> Taken {
        count("local", self.take_at(key, limit, Instant::now()))
    }
}

/// In Redis, for all processes that share it, by Redis' clock.
#[derive(Debug)]
pub struct RedisLimiter {
    link: RedisLink,
    script: Script,
    alone: LocalLimiter,
}

/// Times are microseconds, exact in Lua's doubles until the year 2255. Answers how many to wait, 0 if allowed.
const GCRA: &str = "
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local next = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + interval
local wait = next - now - tolerance
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000) + 1)
return 0
";

impl RedisLimiter {
    /// A limiter behind this link.
    #[must_use]
    pub fn new(link: RedisLink) -> Self {
        Self { link, script: Script::new(GCRA), alone: LocalLimiter::new() }
    }
}

#[async_trait]
impl Limiter for RedisLimiter {
    async fn take(&self, key: &str, limit: Limit) -> Taken {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let mut call = self.script.key(self.link.key(key));
        call.arg(micros(limit.interval())).arg(micros(limit.tolerance()));
        let wait: Option<u64> =
            self.link.ask("limiter", |mut redis| async move { call.invoke_async(&mut redis).await }).await;
        match wait {
            Some(0) => count("redis", Taken::Allowed),
            Some(wait) => count("redis", Taken::Denied { retry_after: Duration::from_micros(wait) }),
            None => self.alone.take(key, limit).await,
        }
    }
}

fn count(kind: &'static str, taken: Taken) -> Taken {
    if let Taken::Denied { .. } = taken {
        metrics::counter!("amends_limiter_denied_total", "kind" => kind).increment(1);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let limiter = LocalLimiter::new();
        let limit = Limit { per_second: 10, burst: 5 };
        let start = Instant::now();
        let tenth = Duration::from_millis(100);
        for i in 0..5 {
            assert_eq!(limiter.take_at("k", limit, start), Taken::Allowed, "{i}");
        }
        assert_eq!(limiter.take_at("k", limit, start), Taken::Denied { retry_after: tenth });
        assert_eq!(limiter.take_at("another", limit, start), Taken::Allowed);
        assert_eq!(limiter.take_at("k", limit, start + tenth), Taken::Allowed);
        assert_eq!(limiter.take_at("k", limit, start + tenth), Taken::Denied { retry_after: tenth });
    }

    #[test]
    fn keys_whose_time_has_passed_are_forgotten() {
        let limiter = LocalLimiter::new();
        let limit = Limit { per_second: 1000, burst: 1 };
        let start = Instant::now();
        for i in 0..10 * FIRST_SWEEP {
            let now = start + Duration::from_micros(100) * u32::try_from(i).unwrap();
            assert_eq!(limiter.take_at(&i.to_string(), limit, now), Taken::Allowed);
        }
        assert!(limiter.times.lock().unwrap().by_key.len() <= FIRST_SWEEP + 1);
    }

    #[test]
    fn zero_counts_as_one() {
        let limiter = LocalLimiter::new();
        let limit = Limit { per_second: 0, burst: 0 };
        let now = Instant::now();
        assert_eq!(limiter.take_at("k", limit, now), Taken::Allowed);
        assert_eq!(limiter.take_at("k", limit, now), Taken::Denied { retry_after: Duration::from_secs(1) });
    }
}
