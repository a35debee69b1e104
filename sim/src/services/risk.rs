//! risk-svc: Screen, and how a review ends. Mirrors `risk-svc/src/commands` and `deadline.rs`.

use std::collections::BTreeMap;

use chassis::{
    barrier::{Forward, Outcome, Record},
    bus::{Message, Verdict},
    clock,
};
use chrono::{DateTime, TimeDelta, Utc};
use prost::Message as _;
use proto::{
    risk::v1::{ScreenDone, ScreenItem, WithdrawItem},
    step::{Answer, Pending, Refused, TurnedAway, read_command, step_answer},
};
use risk_svc::{
    domain::{self, Judgement, Kind, Knock, ReviewState, Rule, Rules, Subject},
    wire,
};
use types::StepKey;

use super::{asked, handle, header, turn_away};
use crate::{
    broker::Settle,
    mark::Mark,
    network::{Reply, serve},
    process::{ProcessId, Room},
    weather::Weather,
    world::World,
};

/// From here on a person looks, in minor units.
pub const LARGE: i64 = 50_000;
/// Who is on the deny list.
pub const DENIED: &str = "c_denied";

#[derive(Debug, Clone)]
struct Review {
    state: ReviewState,
    expires: DateTime<Utc>,
}

#[derive(Debug, Clone)]
struct Screening {
    record: Record,
    refused: Option<Refused>,
    approved_by: &'static str,
    review: Option<Review>,
}

/// The database.
#[derive(Clone)]
pub struct Screenings {
    rules: Rules,
    /// How long a reviewer has.
    deadline: i64,
    rows: BTreeMap<StepKey, Screening>,
    clock: bool,
}

impl Screenings {
    /// With one rule.
    #[must_use]
    pub fn new(weather: &Weather) -> Self {
        let rule = Rule {
            kind: Kind::Amount,
            currency: "EUR".parse().ok(),
            threshold: LARGE,
            window_seconds: 0,
            enabled: true,
        };
        Self {
            rules: [rule].into_iter().collect(),
            deadline: weather.review,
            rows: BTreeMap::new(),
            clock: false,
        }
    }

    fn open(&self) -> impl Iterator<Item = (&StepKey, DateTime<Utc>)> {
        self.rows.iter().filter_map(|(key, row)| {
            let review = row.review.as_ref().filter(|review| review.state == ReviewState::Open)?;
            Some((key, review.expires))
        })
    }

    /// The reviews that somebody may decide.
    #[must_use]
    pub fn reviews(&self) -> Vec<StepKey> {
        self.open().map(|(key, _)| key.clone()).collect()
    }
}

/// Screen.
pub fn screen(w: &mut World, process: ProcessId, item: ScreenItem, reply: Reply) {
    let read = header(item.header.as_ref()).and_then(|header| wire::screen(item, header));
    let item = match read {
        Ok(item) => item,
        Err(why) => return turn_away(w, reply, why),
    };
    let now = clock::now();
    serve(w, process, reply, move |w| {
        let (key, subject) = (item.key, item.subject);
        let found = w.services.risk.rows.get(&key);
        match asked(w, found.map(|found| &found.record), &subject.hash()) {
            Forward::Done => {
                Answer::Done(ScreenDone { approved_by: found.map_or("", |found| found.approved_by).into() })
            }
            Forward::Refused => {
                Answer::Refused(found.and_then(|row| row.refused.clone()).unwrap_or_default())
            }
            Forward::Fenced => Answer::Fenced,
            Forward::Mismatch => TurnedAway::mismatch(&key).into(),
            Forward::InProgress => match found.and_then(|found| found.review.as_ref()) {
                Some(review) => Answer::Pending(pending(review.expires)),
                None => TurnedAway::failed("a screening waits for nobody").into(),
            },
            Forward::Fresh => decide(w, key, &subject, now),
        }
    });
}

fn pending(until: DateTime<Utc>) -> Pending {
    Pending { until: Some(proto::time::stamp(until)), action: "REVIEW".into() }
}

fn decide(w: &mut World, key: StepKey, subject: &Subject, now: DateTime<Utc>) -> Answer<ScreenDone> {
    let is_denied = subject.customer.as_str() == DENIED;
    let judgement = domain::judge(&w.services.risk.rules, subject, is_denied, 0);
    let record = |forward| Record { forward, forward_hash: subject.hash(), back: None };
    let row =
        |forward| Screening { record: record(forward), refused: None, approved_by: "RULES", review: None };
    let (row, answer) = match judgement {
        Judgement::Approve => (row(Outcome::Done), Answer::Done(ScreenDone { approved_by: "RULES".into() })),
        Judgement::Deny => {
            let refused = wire::refused("RISK_DENIED", [("customer_id", subject.customer.as_str())]);
            (Screening { refused: Some(refused.clone()), ..row(Outcome::Refused) }, Answer::Refused(refused))
        }
        Judgement::Review(_) => {
            w.mark(Mark::ReviewOpen);
            let expires = now + TimeDelta::milliseconds(w.services.risk.deadline);
            let review = Some(Review { state: ReviewState::Open, expires });
            (Screening { review, ..row(Outcome::Pending) }, Answer::Pending(pending(expires)))
        }
    };
    w.services.risk.rows.insert(key, row);
    plan_clock(w);
    answer
}

/// Somebody knocks at a review: a person, the clock, or its saga.
fn knock(w: &mut World, key: &StepKey, knock: Knock, now: DateTime<Utc>) -> Vec<Message> {
    let Some(row) = w.services.risk.rows.get_mut(key) else { return Vec::new() };
    let Some(review) = &mut row.review else { return Vec::new() };
    let Some(state) = domain::end(review.state, review.expires, knock, now) else { return Vec::new() };
    review.state = state;
    let refused = match state {
        ReviewState::Approved | ReviewState::Open => None,
        ReviewState::Declined => Some(wire::refused("REVIEW_DECLINED", [("reviewer", "r_1")])),
        ReviewState::Expired => Some(wire::refused("REVIEW_EXPIRED", [])),
        ReviewState::Withdrawn => Some(wire::refused("REVIEW_WITHDRAWN", [])),
    };
    let outcome = match refused {
        None => {
            row.record.forward = Outcome::Done;
            row.approved_by = "REVIEWER";
            step_answer::Outcome::Done(ScreenDone { approved_by: "REVIEWER".into() }.encode_to_vec())
        }
        Some(refused) => {
            row.record.forward = Outcome::Refused;
            row.refused = Some(refused.clone());
            step_answer::Outcome::Refused(refused)
        }
    };
    w.mark(match state {
        ReviewState::Open | ReviewState::Approved | ReviewState::Declined => Mark::ReviewDecided,
        ReviewState::Expired => Mark::ReviewExpired,
        ReviewState::Withdrawn => Mark::ReviewWithdrawn,
    });
    vec![wire::late_answer(key, outcome, "", now)]
}

/// A withdrawal that comes first: the screening that is on its way finds the tombstone.
fn bury(w: &mut World, key: &StepKey) {
    if !w.services.risk.rows.contains_key(key) {
        w.mark(Mark::WithdrawnFirst);
        let record = Record { forward: Outcome::Blocked, forward_hash: Vec::new(), back: None };
        let row = Screening { record, refused: None, approved_by: "", review: None };
        w.services.risk.rows.insert(key.clone(), row);
    }
}

/// Withdraw, by message: nobody waits for an answer.
pub fn message(w: &mut World, process: ProcessId, message: &Message, settle: Settle) {
    let key = match read_command::<WithdrawItem>(&message.kind, &message.body) {
        Ok((_, header)) => header.key,
        Err(why) => return settle(w, Verdict::Dead(why)),
    };
    let now = clock::now();
    handle(w, process, message, settle, move |w| {
        bury(w, &key);
        Ok(knock(w, &key, Knock::Withdrawal, now))
    });
}

/// Somebody who is not the saga knocks, through a process.
pub fn knock_at(w: &mut World, process: ProcessId, key: StepKey, how: Knock) {
    let now = clock::now();
    w.transact(
        process,
        move |w| {
            let messages = knock(w, &key, how, now);
            w.insert_outbox(Room::Risk, &messages);
            messages
        },
        move |w, messages| w.hand(process, Room::Risk, &messages.unwrap_or_default()),
    );
}

/// The clock of reviews: looked at every second, by whoever runs, while any is open.
pub fn plan_clock(w: &mut World) {
    let screenings = &mut w.services.risk;
    if screenings.clock || screenings.open().next().is_none() {
        return;
    }
    screenings.clock = true;
    let now = w.now;
    let soonest = w.services.risk.open().map(|(_, expires)| expires.timestamp_millis()).min().unwrap_or(now);
    // Clocks differ by up to an hour: looking a while before costs nothing.
    let delay = (soonest - now).clamp(1_000, 15_000);
    w.after(delay, look_at_clock);
}

fn look_at_clock(w: &mut World) {
    w.services.risk.clock = false;
    let now = w.now;
    let able: Vec<_> =
        w.running(Room::Risk).into_iter().filter(|one| w.processes[*one].paused_until <= now).collect();
    if let Some(process) = able.first().copied() {
        let due: Vec<StepKey> = {
            let wall = w.wall(process);
            let open = w.services.risk.open();
            open.filter(|(_, at)| at.timestamp_millis() <= wall).map(|(key, _)| key.clone()).collect()
        };
        for key in due {
            w.of(process, 0, move |w| knock_at(w, process, key, Knock::Clock));
        }
    }
    plan_clock(w);
}
