//! What goes wrong in a run, how often and how hard: drawn anew for each seed.
//!
//! Each fault is off in about half of the runs: a fault that is always there hides what happens without it, and many
//! faults at once hide each other.

use crate::luck::Luck;

/// Rates are in a thousand; times in milliseconds.
#[derive(Debug, Clone)]
pub struct Weather {
    /// How long things go wrong.
    pub storm: i64,
    /// Orders that customers want.
    pub orders: usize,
    /// Processes of each participant.
    pub instances: usize,
    /// The second orchestrator is of an older release and knows the order saga's first version alone.
    pub mixed: bool,
    /// How long a lease holds without being renewed.
    pub lease: i64,
    /// How long an order may go forward.
    pub deadline: i64,
    /// How long a command may stay unanswered.
    pub answer: i64,
    /// How long a reviewer has.
    pub review: i64,
    /// When a slow charge is settled.
    pub slow: i64,

    /// A call, or a request to a door, is lost.
    pub call_lost: u32,
    /// It comes twice.
    pub call_twice: u32,
    /// It is held up for up to a minute.
    pub call_held: u32,
    /// Its answer is lost.
    pub reply_lost: u32,
    /// Its answer comes twice.
    pub reply_twice: u32,
    /// A breaker is open.
    pub breaker: u32,
    /// A participant turns an item away: too much to do, too late, or it alone cannot be processed.
    pub turned_away: u32,

    /// It is turned away as if the caller were not known: somebody's mistake, which a person must see.
    pub mistake: u32,

    /// A commit's answer is lost: it is durable, or it is not.
    pub commit_lost: u32,
    /// A connection cannot be had.
    pub away: u32,
    /// A process dies while it waits for its commit: before it, in it, or just after.
    pub dies_at_commit: u32,
    /// A shard that is reached for with others is locked by somebody.
    pub locked: u32,

    /// A message comes twice.
    pub message_twice: u32,
    /// It is held up for up to a minute.
    pub message_held: u32,
    /// The rungs of the retry ladder are so many times shorter.
    pub ladder: i64,
    /// A handler fails.
    pub handler_fails: u32,
    /// It fails for this message always.
    pub poison: u32,
    /// The confirm of a publish is lost.
    pub confirm_lost: u32,
    /// The broker returns a publish: it has no such queue.
    pub returned: u32,

    /// A request to the provider is lost on its way there or back.
    pub provider_lost: u32,
    /// It is held up: it takes effect after its caller gave up.
    pub provider_held: u32,
    /// Longer than the horizon that payment-svc is promised: money may be seen late, and must go back by itself.
    pub provider_breaks_promise: bool,

    /// Mean time between crashes of some process; 0: none.
    pub crash: i64,
    /// The first order that is started kills whoever calls its charge.
    pub killer: bool,
    /// Mean time between two processes that are stopped for a while and go on.
    pub pause: i64,
    /// Mean time between two processes that cannot reach their database for a while.
    pub cut: i64,
    /// Mean time between restarts or outages of some database.
    pub disk: i64,
    /// Mean time between outages of the broker.
    pub broker: i64,
    /// Mean time between jumps of some process's wall clock.
    pub clock: i64,
    /// Mean time between gentle stops of an orchestrator.
    pub leave: i64,

    /// A customer cancels.
    pub cancels: u32,
    /// A customer asks twice at once.
    pub asks_twice: u32,
    /// Something about an order is not as it should be: stock, card, customer, account.
    pub trouble: u32,
    /// Mean time between two looks of an operator.
    pub operator: i64,
    /// Nobody looks after what is parked.
    pub unattended: bool,
}

fn rate(luck: &mut Luck) -> u32 {
    if luck.flip() { 0 } else { luck.pick(&[10, 30, 80, 200]) }
}

/// For what may go wrong most of the time.
fn hard_rate(luck: &mut Luck) -> u32 {
    if luck.flip() { 0 } else { luck.pick(&[10, 30, 80, 200, 500, 850]) }
}

fn every(luck: &mut Luck) -> i64 {
    if luck.flip() { 0 } else { luck.pick(&[700, 700, 2_000, 8_000, 20_000]) }
}

impl Weather {
    /// The weather of a seed.
    #[must_use]
    pub fn of(luck: &mut Luck) -> Self {
        let mut weather = Self {
            storm: luck.pick(&[8_000, 20_000, 20_000, 40_000]),
            orders: luck.pick(&[1, 3, 5, 8, 10]),
            instances: luck.pick(&[1, 1, 2]),
            mixed: luck.chance(150),
            lease: luck.pick(&[2_000, 2_000, 10_000]),
            deadline: luck.pick(&[4_000, 20_000, 60_000, 1_800_000]),
            answer: luck.pick(&[3_000, 10_000, 60_000]),
            review: luck.pick(&[3_000, 15_000, 120_000]),
            slow: luck.pick(&[2_000, 15_000, 60_000]),
            call_lost: hard_rate(luck),
            call_twice: rate(luck),
            call_held: rate(luck),
            reply_lost: hard_rate(luck),
            reply_twice: rate(luck),
            breaker: rate(luck) / 2,
            turned_away: hard_rate(luck),
            mistake: rate(luck) / 4,
            commit_lost: rate(luck),
            away: rate(luck) / 2,
            dies_at_commit: luck.pick(&[0, 0, 3, 10]),
            locked: hard_rate(luck),
            message_twice: rate(luck),
            message_held: rate(luck),
            ladder: luck.pick(&[1, 50, 200]),
            handler_fails: hard_rate(luck),
            poison: hard_rate(luck),
            confirm_lost: rate(luck),
            returned: rate(luck) / 4,
            provider_lost: rate(luck),
            provider_held: rate(luck),
            provider_breaks_promise: luck.chance(120),
            crash: every(luck),
            killer: luck.chance(40),
            pause: every(luck),
            cut: every(luck),
            disk: every(luck),
            broker: every(luck),
            clock: every(luck),
            leave: every(luck),
            cancels: luck.pick(&[0, 300, 700]),
            asks_twice: rate(luck),
            trouble: luck.pick(&[0, 200, 500]),
            operator: luck.pick(&[1_000, 5_000, 15_000]),
            unattended: luck.chance(250),
        };
        if weather.provider_breaks_promise {
            weather.provider_held = 400;
        }
        if luck.chance(60) {
            weather.calm();
        }
        weather
    }

    /// From here on nothing goes wrong any more.
    pub fn calm(&mut self) {
        for rate in [
            &mut self.call_lost,
            &mut self.call_twice,
            &mut self.call_held,
            &mut self.reply_lost,
            &mut self.reply_twice,
            &mut self.breaker,
            &mut self.turned_away,
            &mut self.mistake,
            &mut self.commit_lost,
            &mut self.away,
            &mut self.dies_at_commit,
            &mut self.locked,
            &mut self.message_twice,
            &mut self.message_held,
            &mut self.handler_fails,
            &mut self.poison,
            &mut self.confirm_lost,
            &mut self.returned,
            &mut self.provider_lost,
            &mut self.provider_held,
        ] {
            *rate = 0;
        }
        for mean in [
            &mut self.crash,
            &mut self.pause,
            &mut self.cut,
            &mut self.disk,
            &mut self.broker,
            &mut self.clock,
            &mut self.leave,
        ] {
            *mean = 0;
        }
    }
}
