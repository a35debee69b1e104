//! Refund, by message: the wish is recorded, the answer comes when the money is back. Mirrors `commands/take_back.rs`.

use chassis::{
    barrier::Outcome,
    bus::{Message, Verdict},
};
use payment_svc::{
    answers,
    domain::{State, TakeBack},
};
use proto::{
    payment::v1::RefundItem,
    step::{BackAnswer, read_command},
};
use types::StepKey;
use uuid::Uuid;

use super::{Errand, blank, note, resolver, time, walk};
use crate::{
    broker::Settle,
    bug::Bug,
    mark::Mark,
    orchestrator::doors::verdict,
    process::{ProcessId, Room},
    world::World,
};

/// A record remembers this many commands that wait.
const COMMANDS: usize = 16;

/// Refund.
pub fn message(w: &mut World, process: ProcessId, message: &Message, settle: Settle) {
    let key = match read_command::<RefundItem>(&message.kind, &message.body) {
        Ok((_, header)) => header.key,
        Err(why) => return settle(w, Verdict::Dead(why)),
    };
    let (id, since) = (message.id, w.now);
    // Without a slot or the breaker's leave it is recorded all the same; the resolver sends it.
    let may_send = !w.luck.chance(w.weather.breaker);
    let asked = key.clone();
    w.transact(
        process,
        move |w| {
            let (errand, messages) = take_back(w, &asked, id, may_send);
            w.insert_outbox(Room::Payment, &messages);
            w.judge.handled(id);
            w.judge_an_attempt(&asked);
            resolver::plan(w);
            (errand, messages)
        },
        move |w, taken| match taken {
            Ok((errand, messages)) => {
                w.hand(process, Room::Payment, &messages);
                settle(w, Verdict::Done);
                walk::carry(w, process, key, errand, since, |_, _| {});
            }
            Err(trouble) => settle(w, verdict(Some(trouble))),
        },
    );
}

fn take_back(w: &mut World, key: &StepKey, command: Uuid, may_send: bool) -> (Errand, Vec<Message>) {
    let now = time(w);
    let policy = w.services.payment.policy;
    let looks = !w.has(Bug::RefundWithoutLookup);
    let Some(attempt) = w.services.payment.attempts.get_mut(key) else {
        w.mark(Mark::NotApplied);
        if !w.has(Bug::NoTombstone) {
            let mut tombstone = blank(key.clone(), Vec::new(), None, now);
            tombstone.back = Some(Outcome::Blocked);
            w.services.payment.attempts.insert(key.clone(), tombstone);
        }
        w.judge_taken_back_charge(key);
        let answer = answers::back_answer(key, &command.to_string(), &BackAnswer::NotApplied, "", now);
        return (Errand::Rest, answer.into_iter().collect());
    };
    let before = attempt.clone();
    let was_open = attempt.state.is_open();
    if was_open && !looks {
        // Nothing is known of it, and it answers as if nothing were there.
        attempt.state = State::Blocked;
        attempt.forward = Outcome::Refused;
        attempt.back = Some(Outcome::Blocked);
        (attempt.sent, attempt.next_look) = (None, None);
    }
    let next = attempt.take_back(&policy, may_send, false, now);
    answers::seal(attempt);
    let mut messages = answers::messages(&before, attempt, now).unwrap_or_default();
    let errand = match next {
        TakeBack::Answered => {
            let says = answers::back(attempt).ok().flatten().unwrap_or(BackAnswer::NotApplied);
            messages.extend(answers::back_answer(key, &command.to_string(), &says, "", now));
            Errand::Rest
        }
        TakeBack::Later(next) => {
            remember(&mut attempt.commands, command);
            Errand::of(next, attempt)
        }
    };
    let after = attempt.state;
    if was_open {
        w.mark(Mark::WantedBack);
    }
    if matches!(errand, Errand::Refund(_)) {
        w.mark(Mark::RefundSent);
    }
    note(w, key, (before.state, after, false));
    (errand, messages)
}

fn remember(commands: &mut Vec<[u8; 16]>, command: Uuid) {
    let command = command.into_bytes();
    if !commands.contains(&command) {
        commands.push(command);
    }
    let surplus = commands.len().saturating_sub(COMMANDS);
    commands.drain(..surplus);
}
