//! Does what is planned, one fault at a time in each place, and says whether it came to it.

use std::{sync::Arc, time::Duration};

use chassis::bus::Queue;
use rand::RngExt as _;
use serde::Serialize;
use tokio::{sync::Mutex, time::Instant};

use super::{
    plan::{Fault, Kind, Target},
    promises::Watch,
    queues::Broker,
    site::{Link, Site, Wire},
};
use crate::{
    infra::{End, Server},
    proxy::{CutAt, Manner},
    stack::Member,
};

/// How long a trap is left laid.
const TRAP: Duration = Duration::from_secs(20);

/// How often a fault is tried that does not come to it.
const ATTEMPTS: usize = 3;

/// How far clocks jump.
const HOUR_MS: i64 = 3_600_000;

/// A fault as it was.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Done {
    pub(super) kind: Kind,
    pub(super) target: String,
    /// From the beginning of the run, in seconds.
    pub(super) began_s: f64,
    pub(super) ended_s: f64,
    /// Whether it came to it.
    pub(super) occurred: bool,
    /// What is worth knowing of it.
    pub(super) note: String,
}

/// Whoever breaks things.
pub(super) struct Vandal {
    pub(super) site: Arc<Site>,
    pub(super) watch: Arc<Watch>,
    pub(super) poison: Mutex<Vec<String>>,
    /// Processes that were found dead, without anybody having killed them.
    pub(super) fallen: Mutex<Vec<String>>,
}

/// What came of it, and a note.
type Outcome = Result<String, String>;

impl Vandal {
    /// Does one; returns when it is over and the place is whole again. What cannot be done, since another fault holds the
    /// place still, is tried again a few times.
    pub(super) async fn inflict(&self, fault: Fault, turn: usize) -> Done {
        let mut done = self.try_to(fault, turn).await;
        for _ in 1..ATTEMPTS {
            if done.occurred {
                break;
            }
            done = self.try_to(fault, turn).await;
        }
        done
    }

    async fn try_to(&self, fault: Fault, turn: usize) -> Done {
        let began_s = self.watch.elapsed();
        let outcome = match fault.target {
            Target::Member(member) => self.hurt(fault.kind, member, fault.lasts).await,
            Target::Link(link) => self.disturb(fault.kind, link, fault.lasts).await,
            Target::Postgres => self.stop_postgres(fault.kind, fault.lasts).await,
            Target::Broker => self.upset_broker(fault.kind, fault.lasts, turn).await,
            Target::Redis => self.lose_redis(fault.kind, fault.lasts).await,
            Target::Queue(n) => self.delete_queue(&amends::stack::queues()[n]).await,
        };
        let (occurred, note) = match outcome {
            Ok(note) => (true, note),
            Err(note) => (false, note),
        };
        let target = match fault.target {
            Target::Queue(n) => amends::stack::queues()[n].name.clone(),
            other => other.to_string(),
        };
        Done { kind: fault.kind, target, began_s, ended_s: self.watch.elapsed(), occurred, note }
    }

    async fn hurt(&self, kind: Kind, member: Member, lasts: Duration) -> Outcome {
        let post = &self.site.posts[&member];
        let mut place = post.process.lock().await;
        let process = place.as_mut().expect("whoever kills it revives it");
        if let Some(how) = process.ended() {
            self.fallen.lock().await.push(format!("{member}: {how}"));
            *place = Some(self.site.revive(member).await);
            return Err(format!("it had ended by itself: {how}"));
        }
        match kind {
            Kind::Kill => {
                place.take().expect("it runs").kill().await;
                if matches!(member, Member::Orchestrator(_)) {
                    self.watch.orchestrator_died(member, &post.grpc);
                }
                tokio::time::sleep(lasts).await;
                let began = Instant::now();
                *place = Some(self.site.revive(member).await);
                self.watch.serves_again(member, began.elapsed());
                Ok(format!("away for {} ms", lasts.as_millis()))
            }
            Kind::Pause | Kind::PausePastLease => {
                process.pause().await;
                tokio::time::sleep(lasts).await;
                process.wake().await;
                Ok(String::new())
            }
            _ => {
                let ahead = if kind == Kind::ClockAhead { HOUR_MS } else { -HOUR_MS };
                for (jump, wait) in [(ahead, lasts), (0, Duration::ZERO)] {
                    std::fs::write(&post.clock, jump.to_string()).map_err(|error| error.to_string())?;
                    let before = self.site.jumps(member);
                    process.jump().await;
                    let told = async {
                        while self.site.jumps(member) == before {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    };
                    let told = tokio::time::timeout(Duration::from_secs(10), told).await;
                    told.map_err(|_| "its clock did not jump".to_owned())?;
                    tokio::time::sleep(wait).await;
                }
                Ok(String::new())
            }
        }
    }

    async fn disturb(&self, kind: Kind, link: Link, lasts: Duration) -> Outcome {
        let Wire { proxy, lock } = &self.site.wires[&link];
        let _held = lock.lock().await;
        let stands = || async {
            let until = Instant::now() + Duration::from_secs(10);
            while proxy.standing() == 0 && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            match proxy.standing() {
                0 => Err("no connection stood".to_owned()),
                standing => Ok(format!("{standing} connections")),
            }
        };
        match kind {
            Kind::Cut => {
                let standing = stands().await?;
                proxy.cut();
                Ok(standing)
            }
            Kind::Reset => {
                let standing = stands().await?;
                proxy.reset();
                Ok(standing)
            }
            Kind::Slow | Kind::BlackHole => {
                let standing = stands().await?;
                let by = Duration::from_millis(rand::rng().random_range(20..200));
                proxy.set(if kind == Kind::Slow { Manner::Slow(by) } else { Manner::Swallow });
                tokio::time::sleep(lasts).await;
                proxy.set(Manner::Pass);
                Ok(if kind == Kind::Slow { format!("by {} ms", by.as_millis()) } else { standing })
            }
            _ => {
                let before = proxy.answers_lost();
                match kind {
                    Kind::CommitAnswerLost => proxy.cut_at_commit(1, CutAt::After),
                    _ => proxy.lose_answers(1),
                }
                let until = Instant::now() + TRAP;
                while proxy.answers_lost() == before && Instant::now() < until {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                proxy.lose_answers(0);
                if proxy.answers_lost() == before {
                    return Err("nothing was answered there".to_owned());
                }
                Ok(String::new())
            }
        }
    }

    async fn stop_postgres(&self, kind: Kind, lasts: Duration) -> Outcome {
        let mut postgres = self.site.postgres.lock().await;
        let end = if kind == Kind::PostgresRestart { End::Gently } else { End::AtOnce };
        restart(&mut postgres, end, lasts).await;
        self.watch.database_returned();
        Ok(format!("away for {} ms", lasts.as_millis()))
    }

    async fn upset_broker(&self, kind: Kind, lasts: Duration, turn: usize) -> Outcome {
        let mut broker = self.site.broker.lock().await;
        match kind {
            Kind::BrokerKill => {
                restart(&mut broker, End::AtOnce, lasts).await;
                self.watch.broker_returned("RabbitMQ");
                Ok(format!("away for {} ms", lasts.as_millis()))
            }
            Kind::BrokerAlarm => {
                broker
                    .evaluate("vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1000000}).")
                    .await?;
                tokio::time::sleep(lasts).await;
                let alarms = broker.evaluate("rabbit_alarm:get_alarms().").await;
                broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.6).").await?;
                self.watch.broker_returned("RabbitMQ's memory");
                let alarms = alarms?;
                if alarms.contains("memory") { Ok(String::new()) } else { Err(format!("no alarm: {alarms}")) }
            }
            _ => {
                let sent = self.reach().await?.poison(turn).await.map_err(|error| error.to_string())?;
                let count = sent.len();
                self.poison.lock().await.extend(sent);
                Ok(format!("{count} messages"))
            }
        }
    }

    async fn reach(&self) -> Result<Broker, String> {
        let (url, prefix) = (&self.site.broker_url, self.site.databases.prefix());
        Broker::reach(url, prefix).await.map_err(|error| error.to_string())
    }

    async fn lose_redis(&self, kind: Kind, lasts: Duration) -> Outcome {
        let mut redis = self.site.redis.lock().await;
        if kind == Kind::RedisDown {
            restart(&mut redis, End::AtOnce, lasts).await;
            return Ok(format!("away for {} ms", lasts.as_millis()));
        }
        let keys = flush(&redis.url()).await.map_err(|error| error.to_string())?;
        Ok(format!("{keys} keys"))
    }

    /// Nothing may be lost with it that only it has. So it is deleted while it is empty, and whoever takes from it is well: a
    /// message in hand goes with its queue, but its effect is committed, or its sender sends it again. And nobody is just
    /// connecting: a quorum queue that is declared while it is deleted comes back without a process (RabbitMQ 3.10), and
    /// whoever consumes from it loses his connection.
    async fn delete_queue(&self, queue: &Queue) -> Outcome {
        let mut held = Vec::new();
        for post in self.site.posts.values() {
            held.push(post.process.lock().await);
        }
        let takers = takers(&queue.name);
        let mut wires = Vec::new();
        for (link, wire) in &self.site.wires {
            let matters = match link {
                Link::Broker(_) => true,
                Link::Database(member) => takers.contains(member),
                Link::Book | Link::Redis(_) | Link::Step(..) | Link::Door(_) => false,
            };
            if matters {
                wires.push(wire.lock.lock().await);
            }
        }
        let _postgres = self.site.postgres.lock().await;
        let _node = self.site.broker.lock().await;
        let broker = self.reach().await?;
        broker.delete(&queue.name, takers.len()).await?;
        let began = Instant::now();
        while !broker.look(&queue.name).await.is_ok_and(|(_, takers)| takers > 0) {
            if began.elapsed() > Duration::from_secs(60) {
                self.watch.queue_missing(&queue.name);
                return Ok("it never came back".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.watch.queue_returned(began.elapsed());
        Ok(format!("back after {} ms", began.elapsed().as_millis()))
    }
}

/// Whose queue it is.
fn takers(queue: &str) -> Vec<Member> {
    let service = queue.split('.').next().unwrap_or_default();
    match Member::SERVICES.into_iter().find(|member| member.service() == service) {
        Some(member) => vec![member],
        None => vec![Member::Orchestrator(1), Member::Orchestrator(2)],
    }
}

async fn restart(server: &mut Server, end: End, away: Duration) {
    server.stop(end).await;
    tokio::time::sleep(away).await;
    server.start().await;
}

/// How many keys there were.
async fn flush(url: &str) -> redis::RedisResult<i64> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let keys = redis::cmd("DBSIZE").query_async(&mut connection).await?;
    redis::cmd("FLUSHALL").exec_async(&mut connection).await?;
    Ok(keys)
}
