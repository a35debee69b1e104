//! One saga in memory: what is known, what is recorded and not yet committed, what is in flight.

mod shown;
mod unsaved;

use std::sync::Arc;

use chassis::{bus::header, clock::up_to, telemetry};
use prost::Message as _;
use proto::step::{StepAnswer, step_answer, step_answer::Direction};
use tracing::Span;
use types::SagaId;
use uuid::Uuid;

use self::unsaved::{Parts, Unsaved};
use super::flight::Flight;
use crate::{
    catalog::{CatalogError, Content, Kind, Projection},
    journal::{Recorded, Transition},
    metrics,
    participants::{CallOutcome, Dispatch},
    saga::{Back, Event, Label, Moment, Move, Outcome, Phase, State, next, waits_for_facts, withdrawals},
    signal::{Said, Signal},
};

/// Progress that need not be durable at once gets a commit of its own after this many milliseconds: longer than a busy order
/// takes, or every order would write it twice. What a crash forgets of it is asked again, and absorbed.
const PROGRESS_MS: i64 = 1000;

/// One saga.
pub(super) struct Live {
    saga: SagaId,
    pub(super) shard: i16,
    pub(super) epoch: i64,
    /// The committed version.
    pub(super) version: i64,
    /// When the loop looks at it again, milliseconds since 1970.
    pub(super) timer: Moment,
    kind: Arc<dyn Kind>,
    /// Its input; or why it cannot be read, which is told when somebody needs it.
    content: Result<Box<dyn Content>, Box<CatalogError>>,
    /// The trace of its start; empty where there is none.
    trace: Box<str>,
    pub(super) state: State,
    /// Recorded, not committed.
    unsaved: Unsaved,
    /// The commit that is in flight.
    flight: Option<Box<Flight>>,
    /// What the projection shows, by the last commit or the one in flight.
    shown: Projection,
    /// The earliest `WaitUntil`.
    wake: Moment,
    /// Whether it was counted as one that only waits.
    pub(super) counts_as_waiting: bool,
    /// The version with which the projection changed last, and when, milliseconds since 1970.
    shown_since: (i64, i64),
}

impl Live {
    pub(super) fn new(
        saga: SagaId,
        shard: i16,
        epoch: i64,
        version: i64,
        kind: Arc<dyn Kind>,
        first: &Recorded,
        state: State,
    ) -> Self {
        let input = match &first.event {
            Event::Started { input, .. } => input.as_str(),
            _ => "",
        };
        let content = Arc::clone(&kind).read(saga, input).map_err(Box::new);
        let shown = kind.project(&state);
        Self {
            saga,
            shard,
            epoch,
            version,
            timer: Moment::NEVER,
            kind,
            content,
            trace: first.trace.as_str().into(),
            state,
            unsaved: Unsaved::default(),
            flight: None,
            shown,
            wake: Moment::NEVER,
            counts_as_waiting: false,
            shown_since: (version, first.at),
        }
    }

    fn content(&self) -> Result<&dyn Content, CatalogError> {
        self.content.as_deref().map_err(|error| (**error).clone())
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state.phase, Phase::Ended(_))
    }

    /// Whether its end is durable: it may have been decided while an earlier commit was in flight.
    pub(super) fn is_over(&self) -> bool {
        self.is_ended() && self.may_leave()
    }

    /// Whether it holds no work, only time.
    pub(super) fn only_waits(&self) -> bool {
        matches!(self.state.label(), Label::Waiting | Label::Parked)
    }

    pub(super) fn signals_in_hand(mut self) -> Vec<Uuid> {
        let mut signals = self.unsaved.take_signals();
        signals.extend(self.flight.into_iter().flat_map(|flight| flight.signals));
        signals
    }

    pub(super) fn label(&self) -> Label {
        self.state.label()
    }

    /// Takes a fact into the state and keeps it for the next commit.
    fn record(&mut self, event: Event, now: i64) {
        if let Event::CommandAnswered { step, .. } = &event
            && let Some(position) = self.state.position(step)
            && let Some(sent) = self.state.steps[position].back().sent_at()
        {
            metrics::answered(now - sent);
        }
        match self.state.apply(&event, now) {
            Ok(()) => self.unsaved.record(Recorded { at: now, trace: String::new(), event }),
            Err(error) => tracing::error!(saga.id = %self.saga, %error, "a fact does not fit and is dropped"),
        }
    }

    pub(super) fn park(&mut self, reason: &str, detail: String, now: i64) {
        let _in = telemetry::resumed_span("park", "internal", &self.trace).entered();
        tracing::error!(saga.id = %self.saga, reason, detail, "a saga is parked and waits for a person");
        metrics::parked();
        self.record(Event::Parked { reason: reason.to_owned(), detail }, now);
    }

    /// Makes every decision that follows now; the calls that may be made when those are durable.
    pub(super) fn decide(&mut self, now: i64) -> Vec<usize> {
        // Each decision changes the state towards its end; more than a few in a row would be a bug.
        for _ in 0..16 {
            let mut calls = Vec::new();
            let mut decided = false;
            self.wake = Moment::NEVER;
            for one in next(self.kind.definition(), &self.state, now) {
                match one {
                    Move::Call(step) => calls.push(step),
                    Move::WaitUntil(at) => {
                        self.wake = Moment::at(self.wake.get().map_or(at, |wake| wake.min(at)))
                    }
                    Move::PassPivot => {
                        decided = true;
                        self.record(Event::PivotPassed, now);
                    }
                    Move::TurnRound { reason, metadata, take_back } => {
                        decided = true;
                        let steps = &self.kind.definition().steps;
                        let take_back = take_back.into_iter().map(|step| steps[step].name.clone()).collect();
                        self.record(Event::TurnedRound { reason, metadata, take_back }, now);
                        self.withdraw();
                    }
                    Move::Finish(outcome) => {
                        decided = true;
                        self.record(Event::Finished { outcome }, now);
                    }
                    Move::Park { reason, detail } => {
                        decided = true;
                        self.park(reason, detail, now);
                    }
                    Move::Compensate(step) => {
                        decided = true;
                        self.compensate(step, now);
                    }
                }
            }
            if !decided {
                return calls;
            }
        }
        tracing::error!(saga.id = %self.saga, "a saga decides without end");
        Vec::new()
    }

    fn header(&self, step: usize, attempt: u32, remaining_ms: i64, trace: String) -> proto::step::StepHeader {
        proto::step::StepHeader {
            saga_id: self.saga.to_string(),
            step: self.kind.definition().steps[step].name.to_string(),
            attempt,
            remaining_ms: u32::try_from(remaining_ms).unwrap_or(u32::MAX),
            trace,
            epoch: self.epoch,
        }
    }

    /// Tells those who ask somebody that there is nothing to decide any more; in the commit that turns the saga round.
    fn withdraw(&mut self) {
        for step in withdrawals(self.kind.definition(), &self.state) {
            let header = self.header(step, 1, 0, self.trace.to_string());
            match self.kind.command(step, header, &self.state) {
                Ok(message) => self.unsaved.send(message),
                Err(error) => tracing::error!(saga.id = %self.saga, %error, "a review cannot be withdrawn"),
            }
        }
    }

    fn compensate(&mut self, step: usize, now: i64) {
        let header = self.header(step, self.state.steps[step].commands() + 1, 0, self.trace.to_string());
        match self.kind.command(step, header, &self.state) {
            Ok(message) => {
                metrics::compensation();
                let name = self.kind.definition().steps[step].name.clone();
                self.record(Event::CommandSent { step: name, message_id: message.id.to_string() }, now);
                self.unsaved.send(message);
            }
            Err(error) => self.park("UNREADABLE", error.to_string(), now),
        }
    }

    /// Whether a call may leave: nothing that must be durable is on its way.
    pub(super) fn may_call(&self) -> bool {
        self.flight.as_ref().is_none_or(|flight| !flight.decision) && !self.holds_decision()
    }

    /// Whether this step's call has to wait for a commit: of facts in flight, or recorded and not sent yet.
    pub(super) fn is_behind(&self, step: usize) -> bool {
        waits_for_facts(self.kind.definition(), step)
            && (self.flight.is_some() || !self.unsaved.events().is_empty())
    }

    /// Whether nothing would be lost but progress.
    pub(super) fn may_leave(&self) -> bool {
        self.flight.is_none() && !self.holds_decision()
    }

    /// Whether nothing has held it up. Who waited for one participant in a crowd comes to the next ones in a crowd, too.
    fn is_fresh(&self) -> bool {
        self.state.steps.iter().all(|step| step.attempts == 0 && step.not_before() == 0)
    }

    fn holds_decision(&self) -> bool {
        self.unsaved.events().iter().any(|recorded| recorded.event.is_critical())
    }

    /// The call of a step, marked as under way.
    pub(super) fn dispatch(&mut self, step: usize, now: i64) -> Option<Dispatch> {
        let def = &self.kind.definition().steps[step];
        let mut time = def.call_ms;
        if !self.state.pivot_passed && self.state.review_since.get().is_none() {
            time = time.min(self.state.deadline.saturating_sub(now)).max(1);
        }
        let attempts = self.state.steps[step].attempts;
        let name = def.name.as_str();
        let span = telemetry::call_span(self.saga, def.participant, name, attempts + 1, &self.trace);
        let header = self.header(step, attempts + 1, time, telemetry::below(&span, &self.trace));
        match self.content().and_then(|content| content.call(step, header, &self.state)) {
            Ok(call) => {
                let is_fresh = self.is_fresh();
                let state = &mut self.state.steps[step];
                let is_retry = state.called && attempts > 0;
                state.called = true;
                state.calling = true;
                let time = std::time::Duration::from_millis(u64::try_from(time).unwrap_or(1));
                let queued = std::time::Instant::now();
                Some(Dispatch { saga: self.saga, step, call, time, is_retry, is_fresh, span, queued })
            }
            Err(error) => {
                self.park("UNREADABLE", error.to_string(), now);
                None
            }
        }
    }

    /// What a call came to, as facts.
    pub(super) fn returned(&mut self, step: usize, outcome: CallOutcome, now: i64) {
        let def = &self.kind.definition().steps[step];
        let (name, retry) = (def.name.clone(), def.retry);
        if self.state.steps[step].is_final() {
            return;
        }
        let goes_on = self.state.phase == Phase::Forward;
        let attempts = self.state.steps[step].attempts;
        let wait = up_to(retry.longest_wait(attempts + 1));
        let failed = |doubt, spent, reason, wait| Event::AttemptFailed {
            step: name.clone(),
            doubt,
            spent,
            reason,
            not_before: now + wait,
        };
        let event = match outcome {
            CallOutcome::Done(bytes) => match self.kind.output(step, &bytes) {
                Ok(output) => Event::StepDone { step: name, output },
                Err(error) => failed(true, true, error.to_string(), wait),
            },
            CallOutcome::Refused { reason, metadata } => Event::StepRefused { step: name, reason, metadata },
            // At least a moment: a participant whose clock is behind must not be asked in a circle.
            CallOutcome::Pending { until, action } => {
                Event::StepPending { step: name, until: until.max(now + 200), action }
            }
            CallOutcome::Fenced => Event::StepFenced { step: name },
            CallOutcome::InDoubt { reason } => failed(true, true, reason, wait),
            CallOutcome::NotSent { reason, spent: true, .. } => failed(false, true, reason, wait),
            CallOutcome::NotSent { reason, spent: false, retry_after } => {
                let least = i64::try_from(retry_after.as_millis()).unwrap_or(1000).clamp(20, 10_000);
                let event = failed(false, false, reason, least + up_to(least / 2));
                // Spends nothing and says nothing new: not worth a row.
                let _ = self.state.apply(&event, now);
                return;
            }
            CallOutcome::Mistake { reason, detail } => {
                let event = failed(false, true, format!("{reason}: {detail}"), 0);
                self.record(event, now);
                if goes_on {
                    self.park(reason, format!("{}: {detail}", self.kind.definition().steps[step].name), now);
                }
                return;
            }
        };
        if !goes_on && matches!(event, Event::AttemptFailed { .. } | Event::StepPending { .. }) {
            // Going back nobody asks again; what it left is taken back.
            self.state.steps[step].calling = false;
            return;
        }
        self.record(event, now);
    }

    /// Turns a signal into facts. False when it says nothing new to what is durable. Where that is only so by what is not
    /// durable yet, the signal is answered with it: else a cancel could be read, and its reason lost in a crash.
    pub(super) fn hear(&mut self, signal: Signal, now: i64) -> bool {
        if let Some(event) = self.fact(signal.said) {
            self.record(event, now);
        }
        let taken = !self.unsaved.events().is_empty() || self.flight.is_some();
        if taken {
            self.unsaved.answer(signal.id);
        }
        taken
    }

    /// Signals that said nothing new to the commit that has just landed, and need no other.
    pub(super) fn moot(&mut self) -> Vec<Uuid> {
        if self.unsaved.events().is_empty() { self.unsaved.take_signals() } else { Vec::new() }
    }

    fn fact(&self, said: Said) -> Option<Event> {
        let may_turn = self.state.phase == Phase::Forward && !self.state.pivot_passed;
        match said {
            Said::Cancel { reason } => (may_turn && self.state.cancel_requested.is_none())
                .then_some(Event::CancelRequested { reason }),
            Said::Answer { answer } => self.answer(&StepAnswer::decode(answer.as_slice()).ok()?),
            Said::Dead { step, command_id, reason } => {
                let state = &self.state.steps[self.state.position(&step)?];
                let fails = state.is_failed_by(&command_id);
                fails.then_some(Event::CommandDead { step, reason })
            }
            // It was loaded, which is all that this asks.
            Said::Begin => None,
            Said::Retry { actor, reason } => {
                (self.state.label() == Label::Parked).then_some(Event::Retried { actor, reason })
            }
            Said::ForceCompensate { actor, reason } => {
                may_turn.then_some(Event::CompensationForced { actor, reason })
            }
            Said::Resolve { step, compensation, resolution, output, actor, reason, evidence } => {
                let open = self.state.may_resolve(self.state.position(&step)?, compensation);
                open.then_some(Event::Resolved {
                    step,
                    compensation,
                    resolution,
                    output,
                    actor,
                    reason,
                    evidence,
                })
            }
        }
    }

    /// A participant's word by message: the first final one counts.
    fn answer(&self, answer: &StepAnswer) -> Option<Event> {
        let step = answer.step.parse().ok()?;
        let position = self.state.position(&step)?;
        let state = &self.state.steps[position];
        // Which way a newer build's answer goes is not for this one to guess.
        let back = Direction::try_from(answer.direction).ok()? == Direction::Compensation;
        let back_is_open = *state.back() != Back::None && !state.is_taken_back();
        match answer.outcome.as_ref()? {
            step_answer::Outcome::Done(_) | step_answer::Outcome::NotApplied(_) if back => {
                let applied = matches!(answer.outcome, Some(step_answer::Outcome::Done(_)));
                back_is_open.then_some(Event::CommandAnswered { step, applied })
            }
            step_answer::Outcome::Done(_) | step_answer::Outcome::Refused(_) if back || state.is_final() => {
                None
            }
            step_answer::Outcome::Done(bytes) => match self.kind.output(position, bytes) {
                Ok(output) => Some(Event::StepDone { step, output }),
                Err(error) => {
                    tracing::error!(saga.id = %self.saga, step.name = %step, %error, "a settlement cannot be read");
                    None
                }
            },
            step_answer::Outcome::Refused(refused) => Some(Event::StepRefused {
                step,
                reason: refused.reason.clone(),
                metadata: refused.metadata.clone().into_iter().collect(),
            }),
            step_answer::Outcome::NotApplied(_) => None,
            step_answer::Outcome::Dead(dead) => {
                back_is_open.then(|| Event::CommandDead { step, reason: dead.reason.clone() })
            }
        }
    }

    /// The next commit, if it is time for one, or wanted at once, and none is in flight.
    pub(super) fn transition(&mut self, now: i64, at_once: bool) -> Option<Transition> {
        let oldest = self.unsaved.events().first()?.at;
        let decision = self.holds_decision();
        if self.flight.is_some() || !(at_once || decision || now - oldest >= PROGRESS_MS) {
            return None;
        }
        let projection = self.kind.project(&self.state);
        let span = self.commit_span(self.state.label());
        let Parts { events, mut messages, signals } = self.unsaved.take();
        if projection.status != self.shown.status {
            let event = self.content().ok();
            let event = event.and_then(|c| c.announce(&projection, self.version + 1, now));
            messages.extend(event);
        }
        let changed = (projection != self.shown).then(|| projection.clone());
        self.shown = projection;
        let commit = chassis::clock::new_uuid();
        let label = self.state.label();
        let trace = telemetry::below(&span, &self.trace);
        let messages = messages.into_iter().map(|m| m.with(header::TRACE, trace.as_str())).collect();
        let shown_at = changed.as_ref().and_then(|_| events.last()).map(|recorded| recorded.at);
        self.flight = Some(Box::new(Flight { commit, shown_at, decision, signals: signals.clone(), span }));
        Some(Transition {
            saga: self.saga,
            shard: self.shard,
            epoch: self.epoch,
            version: self.version,
            commit_id: commit,
            events,
            state: label.as_str(),
            reason: self.reason(label),
            ended: self.is_ended(),
            projection: changed,
            messages,
            signals,
            is_fresh: self.is_fresh(),
        })
    }

    fn commit_span(&self, label: Label) -> Span {
        let facts = || self.unsaved.events().iter().map(|r| r.event.name()).collect::<Vec<_>>().join(" ");
        telemetry::commit_span(self.saga, self.version + 1, label.as_str(), facts, &self.trace)
    }

    /// Whether this is the commit in flight.
    pub(super) fn is_in_flight(&self, commit: Uuid) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.commit == commit)
    }

    /// The commit in flight is durable; the signals that it answered.
    pub(super) fn landed(&mut self) -> Vec<Uuid> {
        self.version += 1;
        let Some(flight) = self.flight.take() else { return Vec::new() };
        let Flight { signals, span, shown_at, .. } = *flight;
        drop(span);
        self.shown_since = shown_at.map_or(self.shown_since, |at| (self.version, at));
        if let Phase::Ended(outcome) = self.state.phase
            && self.is_over()
        {
            let outcome = match outcome {
                Outcome::Completed => "completed",
                Outcome::Compensated => "compensated",
            };
            metrics::ended(outcome, self.state.times.1 - self.state.times.0);
        }
        signals
    }

    /// When to look again.
    pub(super) fn due(&self, now: i64) -> Option<i64> {
        let progress = match (&self.flight, self.unsaved.events().first()) {
            (None, Some(oldest)) => Some(oldest.at + PROGRESS_MS),
            _ => None,
        };
        let next = [progress, self.wake.get()].into_iter().flatten().min()?;
        Some(next.max(now + 1))
    }
}
