//! What is broken when: drawn from a seed before the run begins.
//!
//! How often each kind comes in an hour is a table here; a shorter run gets its part of it, and each kind once at least.
//! Victims of a kind take turns in a drawn order, so that everybody's turn comes. Read next: `faults.rs`, which does it.

use std::{fmt, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde::Serialize;

use super::site::Link;
use crate::stack::Member;

/// A way to break something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `kill -9`.
    Kill,
    /// SIGSTOP, for a moment.
    Pause,
    /// SIGSTOP of an orchestrator, until its lease has lapsed.
    PausePastLease,
    /// Fast shutdown of Postgres, and start.
    PostgresRestart,
    /// Immediate shutdown of Postgres, and recovery.
    PostgresStop,
    /// `kill -9` of RabbitMQ.
    BrokerKill,
    /// RabbitMQ is short of memory, and blocks who publishes.
    BrokerAlarm,
    /// `kill -9` of Redis.
    RedisDown,
    RedisFlush,
    /// Connections are closed.
    Cut,
    /// Connections are reset.
    Reset,
    /// What is said arrives later.
    Slow,
    /// What is said does not arrive until it ends.
    BlackHole,
    /// A participant has answered, and the orchestrator does not hear it.
    StepAnswerLost,
    /// A COMMIT was done, and whoever said it does not hear so.
    CommitAnswerLost,
    /// A customer's call was answered, and the customer does not hear it.
    ClientAnswerLost,
    QueueDeleted,
    /// Garbage and wrong headers, to every queue.
    Poison,
    /// A process's wall clock jumps an hour ahead, and back.
    ClockAhead,
    /// A process's wall clock jumps an hour back, and ahead.
    ClockBack,
}

impl Kind {
    /// All of them, with how often each comes in an hour.
    pub(super) const HOURLY: [(Self, u32); 20] = [
        (Self::Kill, 216),
        (Self::Pause, 36),
        (Self::PausePastLease, 10),
        (Self::PostgresRestart, 9),
        (Self::PostgresStop, 9),
        (Self::BrokerKill, 9),
        (Self::BrokerAlarm, 8),
        (Self::RedisDown, 10),
        (Self::RedisFlush, 10),
        (Self::Cut, 30),
        (Self::Reset, 30),
        (Self::Slow, 20),
        (Self::BlackHole, 16),
        (Self::StepAnswerLost, 36),
        (Self::CommitAnswerLost, 36),
        (Self::ClientAnswerLost, 16),
        (Self::QueueDeleted, 10),
        (Self::Poison, 12),
        (Self::ClockAhead, 8),
        (Self::ClockBack, 8),
    ];

    /// In words.
    #[must_use]
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 of a service",
            Self::Pause => "SIGSTOP of a service, for a moment",
            Self::PausePastLease => "SIGSTOP of an orchestrator, past its lease",
            Self::PostgresRestart => "Postgres restarted (fast)",
            Self::PostgresStop => "Postgres stopped (immediate)",
            Self::BrokerKill => "RabbitMQ killed and restarted",
            Self::BrokerAlarm => "RabbitMQ's memory alarm",
            Self::RedisDown => "Redis killed and restarted",
            Self::RedisFlush => "Redis FLUSHALL",
            Self::Cut => "connections cut",
            Self::Reset => "connections reset",
            Self::Slow => "connections delayed",
            Self::BlackHole => "connections black-holed",
            Self::StepAnswerLost => "a step's answer lost after its effect",
            Self::CommitAnswerLost => "a COMMIT's answer lost after the commit",
            Self::ClientAnswerLost => "a customer's answer lost",
            Self::QueueDeleted => "a queue deleted",
            Self::Poison => "poison messages to every queue",
            Self::ClockAhead => "a service's clock jumps one hour ahead",
            Self::ClockBack => "a service's clock jumps one hour back",
        }
    }

    /// Whether it may keep a saga from moving for longer than a moment, wherever the saga is.
    #[must_use]
    pub(super) const fn holds_everybody(self) -> bool {
        matches!(self, Self::PostgresRestart | Self::PostgresStop | Self::PausePastLease)
    }

    /// How often it comes in a run of this length.
    #[must_use]
    pub(super) fn times(self, run: Duration) -> usize {
        let hourly = Self::HOURLY.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, times)| *times);
        ((f64::from(hourly) * run.as_secs_f64() / 3600.0).round() as usize).max(1)
    }

    /// What can be its victim.
    fn victims(self, orchestrators: usize) -> Vec<Target> {
        let everybody: Vec<Member> =
            Member::SERVICES.into_iter().chain((1..=orchestrators).map(Member::Orchestrator)).collect();
        let participants = [Member::Order, Member::Inventory, Member::Risk, Member::Payment, Member::Ledger];
        let each = 1..=orchestrators;
        let steps = each.clone().flat_map(|n| participants.map(|to| Target::Link(Link::Step(n, to))));
        let databases =
            everybody.iter().map(|member| Link::Database(*member)).chain([Link::Book]).map(Target::Link);
        let doors = each.clone().map(|n| Target::Link(Link::Door(n)));
        match self {
            Self::Kill | Self::Pause | Self::ClockAhead | Self::ClockBack => {
                everybody.into_iter().map(Target::Member).collect()
            }
            Self::PausePastLease => each.map(|n| Target::Member(Member::Orchestrator(n))).collect(),
            Self::PostgresRestart | Self::PostgresStop => vec![Target::Postgres],
            Self::BrokerKill | Self::BrokerAlarm | Self::Poison => vec![Target::Broker],
            Self::RedisDown | Self::RedisFlush => vec![Target::Redis],
            Self::Cut | Self::Reset | Self::Slow | Self::BlackHole => {
                let brokers = everybody.iter().map(|member| Target::Link(Link::Broker(*member)));
                // The others do not use Redis.
                let cached = [Member::Inventory].into_iter().chain(each.map(Member::Orchestrator));
                let caches = cached.map(|member| Target::Link(Link::Redis(member)));
                steps.chain(databases).chain(doors).chain(brokers).chain(caches).collect()
            }
            Self::StepAnswerLost => steps.collect(),
            // What notification-svc writes commits itself.
            Self::CommitAnswerLost => {
                databases.filter(|link| *link != Target::Link(Link::Database(Member::Notification))).collect()
            }
            Self::ClientAnswerLost => doors.collect(),
            Self::QueueDeleted => (0..amends::stack::queues().len()).map(Target::Queue).collect(),
        }
    }

    /// How long it lasts.
    fn lasts(self, target: Target, turn: usize, random: &mut StdRng) -> Duration {
        let (least, most) = match self {
            Self::Kill => match (turn % 3, target) {
                (0, _) => (0, 1),
                (1, Target::Member(Member::Orchestrator(_))) => (12_000, 16_000),
                _ => (300, 3000),
            },
            Self::Pause => (500, 4000),
            Self::PausePastLease => (12_000, 16_000),
            Self::PostgresRestart | Self::PostgresStop | Self::BrokerKill => (300, 2000),
            Self::BrokerAlarm => (3000, 8000),
            Self::RedisDown => (1000, 4000),
            Self::Slow => (3000, 10_000),
            Self::BlackHole => (2000, 12_000),
            Self::ClockAhead | Self::ClockBack => (4000, 12_000),
            Self::RedisFlush
            | Self::Cut
            | Self::Reset
            | Self::StepAnswerLost
            | Self::CommitAnswerLost
            | Self::ClientAnswerLost
            | Self::QueueDeleted
            | Self::Poison => (0, 1),
        };
        Duration::from_millis(random.random_range(least..most))
    }
}

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Member(Member),
    Link(Link),
    Postgres,
    Broker,
    Redis,
    /// Of all queues, in the order in which they are declared.
    Queue(usize),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(member) => member.fmt(f),
            Self::Link(link) => link.fmt(f),
            Self::Postgres => f.write_str("Postgres"),
            Self::Broker => f.write_str("RabbitMQ"),
            Self::Redis => f.write_str("Redis"),
            Self::Queue(n) => write!(f, "queue {n}"),
        }
    }
}

/// One fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) target: Target,
    /// After the beginning of the run.
    pub(super) at: Duration,
    pub(super) lasts: Duration,
}

/// All faults of a run, in their order.
#[must_use]
pub(super) fn draw(seed: u64, run: Duration, orchestrators: usize) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = Vec::new();
    for (kind, _) in Kind::HOURLY {
        let mut victims = kind.victims(orchestrators);
        victims.shuffle(&mut random);
        for turn in 0..kind.times(run) {
            let target = victims[turn % victims.len()];
            let lasts = kind.lasts(target, turn, &mut random);
            faults.push(Fault { kind, target, at: Duration::ZERO, lasts });
        }
    }
    faults.shuffle(&mut random);
    // What lasts is not left to the end, where there is nothing to disturb any more.
    let slot = run.mul_f64(0.95) / u32::try_from(faults.len().max(1)).unwrap();
    for (turn, fault) in faults.iter_mut().enumerate() {
        let due = slot.mul_f64(turn as f64 + random.random_range(0.0..1.0));
        fault.at = due.min(run.saturating_sub(fault.lasts));
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUND: [Kind; 3] = [Kind::PostgresRestart, Kind::PostgresStop, Kind::BrokerKill];
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn an_hour_has_what_the_published_run_promises_and_two_minutes_have_everything_once() {
        let count = |faults: &[Fault], kind| faults.iter().filter(|fault| fault.kind == kind).count();
        let hour = draw(7, HOUR, 2);
        let short = draw(7, Duration::from_secs(120), 2);
        for (kind, _) in Kind::HOURLY {
            assert!(count(&hour, kind) >= 5, "{kind:?}");
            assert!(count(&short, kind) >= 1, "{kind:?}");
        }
        assert!(count(&hour, Kind::Kill) >= 200);
        assert!(hour.iter().filter(|fault| GROUND.contains(&fault.kind)).count() >= 20);
        assert!(hour.iter().all(|fault| fault.at + fault.lasts <= HOUR));
    }

    #[test]
    fn a_seed_draws_the_same_faults_again() {
        let said = |seed| format!("{:?}", draw(seed, HOUR, 2));
        assert_eq!(said(3), said(3));
        assert_ne!(said(3), said(4));
    }

    #[test]
    fn everybody_dies() {
        let hour = draw(1, HOUR, 2);
        for member in Member::SERVICES.into_iter().chain([Member::Orchestrator(1), Member::Orchestrator(2)]) {
            let deaths =
                hour.iter().filter(|f| f.kind == Kind::Kill && f.target == Target::Member(member)).count();
            assert!(deaths >= 20, "{member}: {deaths}");
        }
    }
}
