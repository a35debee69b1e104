//! Cache and limiter on a real Redis, and without it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chassis::{
    cache::{Cache, LocalCache, RedisCache},
    clock::new_uuid,
    limiter::{Limit, Limiter, LocalLimiter, RedisLimiter, Taken},
    redis_link::RedisLink,
    testbed::variable,
};

use crate::wire::Wire;

fn prefix() -> String {
    format!("test-{}:", new_uuid().simple())
}

fn link(url: &str) -> RedisLink {
    RedisLink::open(url, &prefix()).unwrap()
}

/// Of those who look at what Redis says, not at how fast a busy machine says it.
fn real() -> RedisLink {
    let url = variable("AMENDS_TEST_REDIS_URL");
    RedisLink::with_patience(&url, &prefix(), Duration::from_secs(10)).unwrap()
}

async fn behind_a_wire() -> (Wire, RedisLink) {
    let url = variable("AMENDS_TEST_REDIS_URL");
    let wire = Wire::to(url.trim_start_matches("redis://").trim_end_matches('/')).await;
    let link = link(&format!("redis://{}/", wire.address));
    (wire, link)
}

#[tokio::test]
async fn both_caches_keep_the_same_contract() {
    let caches: [Arc<dyn Cache>; 2] = [Arc::new(LocalCache::new(1 << 20)), Arc::new(RedisCache::new(real()))];
    for cache in caches {
        assert_eq!(cache.get("k").await, None);
        cache.set("k", vec![0, 255, 1], Duration::from_secs(60)).await;
        cache.set("gone", vec![1], Duration::from_millis(50)).await;
        assert_eq!(cache.get("k").await, Some(vec![0, 255, 1]));
        cache.set("k", vec![], Duration::from_secs(60)).await;
        assert_eq!(cache.get("k").await, Some(vec![]));
        cache.delete(&["k".into()]).await;
        cache.delete(&[]).await;
        assert_eq!(cache.get("k").await, None);
        tokio::time::sleep(Duration::from_millis(80)).await;
        assert_eq!(cache.get("gone").await, None);
    }
}

#[tokio::test]
async fn both_limiters_keep_the_same_contract() {
    let limiters: [Arc<dyn Limiter>; 2] =
        [Arc::new(LocalLimiter::new()), Arc::new(RedisLimiter::new(real()))];
    let limit = Limit { per_second: 1, burst: 3 };
    for limiter in limiters {
        for _ in 0..3 {
            assert_eq!(limiter.take("k", limit).await, Taken::Allowed);
        }
        let Taken::Denied { retry_after } = limiter.take("k", limit).await else {
            panic!("more than the burst")
        };
        assert!(retry_after <= Duration::from_secs(1), "{retry_after:?}");
        assert_eq!(limiter.take("other", limit).await, Taken::Allowed);
        tokio::time::sleep(retry_after + Duration::from_millis(5)).await;
        assert_eq!(limiter.take("k", limit).await, Taken::Allowed);
    }
}

#[tokio::test]
async fn a_limit_holds_over_two_processes() {
    let one = real();
    let (a, b) = (RedisLimiter::new(one.clone()), RedisLimiter::new(one));
    let limit = Limit { per_second: 1, burst: 10 };
    let begin = Instant::now();
    let mut allowed = 0;
    for _ in 0..10 {
        allowed += u64::from(a.take("k", limit).await == Taken::Allowed);
        allowed += u64::from(b.take("k", limit).await == Taken::Allowed);
    }
    let most = 10 + begin.elapsed().as_secs();
    assert!((10..=most).contains(&allowed), "{allowed} of {most}");
}

#[tokio::test]
async fn losing_redis_changes_nothing_but_speed() {
    let (wire, link) = behind_a_wire().await;
    let cache = RedisCache::new(link.clone());
    let limiter = RedisLimiter::new(link);
    let limit = Limit { per_second: 1, burst: 5 };
    let deadline = Instant::now() + Duration::from_secs(30);
    while cache.get("k").await != Some(vec![7]) {
        assert!(Instant::now() < deadline, "Redis is there and not used");
        cache.set("k", vec![7], Duration::from_secs(60)).await;
    }

    for lose in [Wire::cut as fn(&Wire), Wire::silence] {
        lose(&wire);
        let begin = Instant::now();
        let key = format!("{}", new_uuid());
        let mut allowed = 0;
        for _ in 0..100 {
            assert_eq!(cache.get("k").await, None, "a miss, not an error");
            allowed += u64::from(limiter.take(&key, limit).await == Taken::Allowed);
        }
        let most = 5 + begin.elapsed().as_secs();
        assert!((5..=most).contains(&allowed), "this process limits by itself: {allowed} of {most}");
        assert!(begin.elapsed() < Duration::from_secs(2), "the breaker stops waiting: {:?}", begin.elapsed());

        wire.mend();
        let deadline = Instant::now() + Duration::from_secs(30);
        while cache.get("k").await.is_none() {
            assert!(Instant::now() < deadline, "Redis is back but not used");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_redis_that_is_not_there_keeps_nobody_from_starting() {
    let begin = Instant::now();
    let cache = RedisCache::new(link("redis://127.0.0.1:1/"));
    cache.set("k", vec![1], Duration::from_secs(1)).await;
    assert_eq!(cache.get("k").await, None);
    assert!(begin.elapsed() < Duration::from_secs(1));
    let debug = format!("{:?}", link("redis://user:secret@127.0.0.1:1/"));
    assert!(!debug.contains("secret"), "{debug}");
    assert!(RedisLink::open("http://x", "p").is_err());
}
