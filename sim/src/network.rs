//! Calls between processes: lost, late, twice, refused; and what the caller makes of it (DESIGN 4.2).
//!
//! A slice of one stands for every slice: items share nothing but their stream. Whatever an answer or a status means is
//! decided by the product's own [`outcome`].

use std::time::Duration;

use orchestrator::participants::{
    Call, CallOutcome, Dispatch, Returned,
    outcome::{classify, classify_status},
};
use proto::step::{Answer, TurnedAway, turned_away};
use tonic::{ConnectError, Status};
use types::SagaId;

use crate::{
    bug::Bug,
    disk::NoWord,
    mark::Mark,
    orchestrator::{Feed, feed},
    process::{ProcessId, Room},
    services,
    world::World,
};

/// What a participant says at the end of its stream.
pub type Said = Result<CallOutcome, Status>;

/// Whom it answers.
pub type Reply = Box<dyn FnOnce(&mut World, Said)>;

/// Who called, in which life, and the number of the call there.
#[derive(Debug, Clone, Copy)]
struct Caller {
    process: ProcessId,
    life: u32,
    number: u64,
}

/// Where a call goes.
#[must_use]
pub const fn room_of(call: &Call) -> Room {
    match call {
        Call::Open(_) | Call::Complete(_) => Room::Order,
        Call::Reserve(_) | Call::Commit(_) => Room::Inventory,
        Call::Screen(_) => Room::Risk,
        Call::Charge(_) => Room::Payment,
        Call::Post(_) => Room::Ledger,
    }
}

/// The method, as lanes are called.
#[must_use]
pub const fn method_of(call: &Call) -> &'static str {
    match call {
        Call::Open(_) => "open",
        Call::Complete(_) => "complete",
        Call::Reserve(_) => "reserve",
        Call::Commit(_) => "commit",
        Call::Screen(_) => "screen",
        Call::Charge(_) => "charge",
        Call::Post(_) => "post",
    }
}

/// An orchestrator calls a step.
pub fn call(w: &mut World, process: ProcessId, dispatch: Dispatch) {
    let Dispatch { saga, step, call, time, .. } = dispatch;
    let life = w.processes[process].life;
    let Some(o) = w.orchestrators.get_mut(&process) else { return };
    o.calls_made += 1;
    let number = o.calls_made;
    o.open.insert(number, (saga, step));
    let caller = Caller { process, life, number };
    w.judge_a_call(process, saga, &call);
    w.tell_of(process, saga, || format!("calls {}", method_of(&call)));
    if w.luck.chance(w.weather.breaker) {
        w.mark(Mark::BreakerOpen);
        let retry_after = Duration::from_secs(1);
        let outcome =
            CallOutcome::NotSent { reason: "the breaker is open".to_owned(), spent: false, retry_after };
        return w.of(process, 0, move |w| returned(w, caller, outcome));
    }
    if w.is_killed_by(saga, &call) {
        return w.of(process, 1, move |w| w.die_for_a_while(process));
    }
    let time = i64::try_from(time.as_millis()).unwrap_or(1);
    w.of(process, time + 500, move |w| {
        returned(w, caller, classify_status(&Status::deadline_exceeded("no answer in time")));
    });
    let instances: Vec<_> = w.all_of(room_of(&call)).into_iter().collect();
    let target = w.luck.pick(&instances);
    if !w.processes[target].up && w.luck.chance(700) {
        w.mark(Mark::CallRefused);
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let status = Status::from_error(Box::new(ConnectError(Box::new(refused))));
        return w.of(process, 1, move |w| returned(w, caller, classify_status(&status)));
    }
    if w.luck.chance(w.weather.call_twice) {
        w.mark(Mark::CallTwice);
        let again = w.luck.pick(&instances);
        travel(w, caller, again, saga, call.clone(), time);
    }
    travel(w, caller, target, saga, call, time);
}

impl World {
    /// DESIGN 4.8: one saga must not kill every instance in turn.
    fn is_killed_by(&self, saga: SagaId, call: &Call) -> bool {
        let is_first = || self.tables.sagas.keys().next() == Some(&saga);
        self.storm && self.weather.killer && matches!(call, Call::Charge(_)) && is_first()
    }
}

/// The way there.
fn travel(w: &mut World, caller: Caller, target: ProcessId, saga: SagaId, call: Call, time: i64) {
    if w.luck.chance(w.weather.call_lost) {
        w.mark(Mark::CallLost);
        if w.luck.flip() {
            let status = Status::unavailable("connection reset");
            w.of(caller.process, 5, move |w| returned(w, caller, classify_status(&status)));
        }
        return;
    }
    let mut delay = w.luck.between(0, 6);
    if w.luck.chance(w.weather.call_held) {
        w.mark(Mark::CallHeld);
        delay = w.luck.pick(&[600, 5_400, 20_000, 60_000]);
    }
    w.after(delay, move |w| {
        if w.processes[target].up {
            w.of(target, 0, move |w| arrive(w, caller, target, saga, call, time));
        } else {
            let status = Status::unavailable("connection reset");
            come_back(w, caller, Err(status));
        }
    });
}

fn arrive(w: &mut World, caller: Caller, target: ProcessId, saga: SagaId, call: Call, time: i64) {
    if w.luck.chance(w.weather.turned_away) {
        w.mark(Mark::TurnedAway);
        let code = w.luck.pick(&[
            turned_away::Code::Overloaded,
            turned_away::Code::TooLate,
            turned_away::Code::Failed,
            turned_away::Code::Away,
        ]);
        let away = TurnedAway { code: code.into(), retry_after_ms: 200, message: "turned away".into() };
        return come_back(
            w,
            caller,
            Ok(classify(Some(Answer::<proto::order::v1::OpenDone>::TurnedAway(away)))),
        );
    }
    if w.luck.chance(w.weather.mistake) {
        w.mark(Mark::Mistake);
        return come_back(w, caller, Err(Status::unauthenticated("who are you?")));
    }
    w.tell_of(target, saga, || format!("hears {}", method_of(&call)));
    let reply = Box::new(move |w: &mut World, said: Said| {
        w.tell_of(target, saga, || match &said {
            Ok(CallOutcome::Pending { action, .. }) => format!("answers pending, {action}"),
            Ok(CallOutcome::Refused { reason, .. }) => format!("answers refused, {reason}"),
            Ok(outcome) => format!("answers {}", outcome.as_str()),
            Err(status) => format!("answers {:?}", status.code()),
        });
        if matches!(said, Ok(CallOutcome::Fenced)) {
            w.mark(Mark::Fenced);
        }
        come_back(w, caller, said);
    });
    services::call(w, target, call, time, reply);
}

/// The way back.
fn come_back(w: &mut World, caller: Caller, said: Said) {
    if w.luck.chance(w.weather.reply_lost) {
        w.mark(Mark::ReplyLost);
        return;
    }
    let outcome = said.unwrap_or_else(|status| classify_status(&status));
    if w.luck.chance(w.weather.reply_twice) {
        w.mark(Mark::ReplyTwice);
        let delay = w.luck.between(0, 2_000);
        let again = outcome.clone();
        w.after(delay, move |w| deliver(w, caller, again));
    }
    let delay = w.luck.between(0, 4);
    w.after(delay, move |w| deliver(w, caller, outcome));
}

fn deliver(w: &mut World, caller: Caller, outcome: CallOutcome) {
    if w.processes[caller.process].life == caller.life {
        w.of(caller.process, 0, move |w| returned(w, caller, outcome));
    }
}

/// The first answer counts; a call that was given up has none any more.
fn returned(w: &mut World, caller: Caller, outcome: CallOutcome) {
    let Some(o) = w.orchestrators.get_mut(&caller.process) else { return };
    let Some((saga, step)) = o.open.remove(&caller.number) else {
        if !matches!(outcome, CallOutcome::InDoubt { .. }) {
            w.mark(Mark::CallLate);
        }
        return;
    };
    feed(w, caller.process, Feed::Returned(Returned { saga, step, outcome }));
}

/// What a participant answers when its transaction had this word: `NoAnswer` as the doors of `proto::step` say it.
pub fn answered<D: prost::Message>(word: Result<Answer<D>, NoWord>) -> Said {
    match word {
        Ok(answer) => Ok(classify(Some(answer))),
        Err(NoWord::Away) => Ok(classify(Some(Answer::<D>::TurnedAway(TurnedAway {
            code: turned_away::Code::Away.into(),
            retry_after_ms: 1_000,
            message: "the database is away".into(),
        })))),
        Err(NoWord::Unknown) => Err(Status::unavailable("the answer to a commit was lost")),
    }
}

/// A participant's transaction whose answer goes back on the stream.
pub fn serve<D: prost::Message + 'static>(
    w: &mut World,
    process: ProcessId,
    reply: Reply,
    transaction: impl FnOnce(&mut World) -> Answer<D> + 'static,
) {
    if w.has(Bug::AnswerBeforeCommit) {
        return w.of(process, 1, move |w| {
            let before = (w.services.clone(), w.judge.clone());
            let answer = transaction(w);
            // The commit fails when the answer is on its way.
            if w.luck.chance(w.weather.commit_lost) {
                (w.services, w.judge) = before;
            }
            reply(w, answered(Ok(answer)));
        });
    }
    w.transact(process, transaction, move |w, word| reply(w, answered(word)));
}
