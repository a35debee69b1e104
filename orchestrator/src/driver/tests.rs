//! What the loop does about shards that come and go, and when a saga in memory may go on.

use std::time::Duration;

use chassis::{
    bus::{Exchange, Message},
    grpc,
    stop::Stop,
};
use proto::step::StepHeader;
use tonic::service::Routes;

use super::*;
use crate::{
    catalog::{
        CatalogError, Content, Kind, Projection,
        order::{Input as Input_, Line, OrderSaga},
    },
    participants::{Call, CallOutcome, Callees, DispatchOptions},
    saga::{Definition, Event, Label, Retry, StepDef, StepKind},
    signal::Said,
};

/// One saga that a test drives by hand: the ends of its channels.
struct Hand {
    driver: Driver,
    inputs: mpsc::UnboundedSender<Input>,
    returned: mpsc::UnboundedSender<Returned>,
    landed: mpsc::UnboundedSender<Vec<Landed>>,
    transitions: mpsc::UnboundedReceiver<Transition>,
    discarded: mpsc::UnboundedReceiver<Discarded>,
}

const SAGA: SagaId = SagaId::from_uuid(Uuid::from_u128(7));

/// An order saga that was just started, on a shard of its own.
fn hand() -> Hand {
    let ((inputs, a), (returned, b), (landed, c)) =
        (mpsc::unbounded_channel(), mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let ((writer, transitions), (discarded_in, discarded)) =
        (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let channels = Channels {
        inputs: a,
        returned: b,
        landed: c,
        writer,
        loaded: mpsc::unbounded_channel().1,
        wanted: mpsc::unbounded_channel().0,
        discarded: discarded_in,
    };
    let kind = OrderSaga::version(2, 60_000, 60_000).unwrap();
    let definition = kind.definition().clone();
    let registry = Registry::new(vec![Arc::new(kind)]).unwrap();
    let participants = Participants::queued(&mpsc::unbounded_channel().0);
    let mut driver =
        Driver::new(registry, participants, Hub::default(), Arc::default(), Arc::default(), channels);
    let line = Line { sku: "P1".into(), quantity: 1, unit_price: 5, line_total: 5 };
    let input = Input_ {
        customer_id: "c_1".into(),
        merchant_id: "m_1".into(),
        currency: "EUR".into(),
        lines: Box::new([line]),
        subtotal: 5,
        tax: 0,
        total: 5,
        card_token: "tok_approve".into(),
        metadata: Default::default(),
        accepted_at: now(),
    };
    let started = Event::Started {
        kind: definition.kind.into(),
        version: definition.version,
        hash: definition.hash(),
        steps: definition.steps.iter().map(|step| step.name.clone()).collect(),
        skipped: Vec::new(),
        deadline: now() + 60_000,
        input: serde_json::to_string(&input).unwrap(),
    };
    let fresh = Fresh {
        saga: SAGA,
        shard: 3,
        epoch: 1,
        kind: definition.kind.into(),
        definition_version: 2,
        definition_hash: definition.hash(),
        started: Recorded { at: now(), trace: String::new(), event: started },
    };
    driver.take(Input::Gained(vec![(3, 1, false)]));
    driver.take(Input::Fresh(Box::new(fresh)));
    Hand { driver, inputs, returned, landed, transitions, discarded }
}

#[test]
fn a_cancel_that_comes_too_late_by_what_is_not_durable_yet_is_put_aside_only_when_that_is() {
    let mut hand = hand();
    let refused = CallOutcome::Refused { reason: "OUT_OF_STOCK".into(), metadata: Default::default() };
    hand.returned.send(Returned { saga: SAGA, step: 1, outcome: refused }).unwrap();
    assert!(hand.driver.turn());
    let turned = hand.transitions.try_recv().unwrap();
    assert!(turned.events.iter().any(|recorded| recorded.event.name() == "TurnedRound"));

    // The saga goes back by what is in memory; a crash now would have it go forward again, without the cancel.
    let cancel = Signal { id: Uuid::from_u128(1), saga: SAGA, said: Said::Cancel { reason: String::new() } };
    hand.inputs.send(Input::Heard(vec![cancel.clone()])).unwrap();
    assert!(hand.driver.turn());
    assert!(hand.discarded.try_recv().is_err());

    hand.landed.send(vec![Landed::Yes(SAGA, turned.commit_id)]).unwrap();
    assert!(hand.driver.turn());
    let answered = hand.transitions.try_recv().map(|next| next.signals).ok();
    let put_aside = hand.discarded.try_recv().map(|discarded| discarded.signals).ok();
    assert_eq!(answered.or(put_aside), Some(vec![cancel.id]));
}

fn driver() -> Driver {
    let nobody = || grpc::local(Routes::default());
    let callees = Callees {
        catalog: nobody().into(),
        order: nobody().into(),
        inventory: nobody().into(),
        risk: nobody().into(),
        payment: nobody().into(),
        ledger: nobody().into(),
    };
    let options =
        DispatchOptions { slice: 1, breaker_failures: 5, breaker_cool_down: Duration::from_secs(1) };
    let (returned_in, returned) = mpsc::unbounded_channel();
    let participants = Participants::start(&callees, options, &returned_in, &Stop::new());
    let channels = Channels {
        inputs: mpsc::unbounded_channel().1,
        returned,
        landed: mpsc::unbounded_channel().1,
        writer: mpsc::unbounded_channel().0,
        loaded: mpsc::unbounded_channel().1,
        wanted: mpsc::unbounded_channel().0,
        discarded: mpsc::unbounded_channel().0,
    };
    let registry = Registry::new(Vec::new()).unwrap();
    Driver::new(registry, participants, Hub::default(), Arc::default(), Arc::default(), channels)
}

#[tokio::test]
async fn a_shard_that_was_acquired_again_is_driven_however_late_its_drain_ends() {
    let mut driver = driver();
    driver.take(Input::Gained(vec![(3, 1, false), (4, 1, false)]));
    let (told, drained) = oneshot::channel();
    driver.take(Input::Drain(vec![3, 4], told));
    assert_eq!((driver.drives(3), driver.drives(4)), (None, None));
    // A commit hung for longer than the keeper waits: it let go all the same, and one of the two came back.
    driver.take(Input::Lost(vec![3, 4]));
    driver.take(Input::Gained(vec![(3, 3, false)]));
    driver.finish_draining();
    drained.await.unwrap();
    assert_eq!((driver.drives(3), driver.drives(4)), (Some(3), None));
}

/// A kind whose second step is itself the pivot.
struct Refund(Definition);

impl Refund {
    fn new() -> Self {
        let step = |name: &str, stage, kind| StepDef {
            name: name.parse().unwrap(),
            participant: "somebody",
            stage,
            kind,
            retry: Retry { budget: 6, first_ms: 1, cap_ms: 1 },
            call_ms: 1000,
        };
        let claim = StepKind::Compensated { command: "Unclaim", declares_end: true };
        let steps = vec![step("claim", 0, claim), step("refund", 1, StepKind::Pivot)];
        let definition = Definition {
            kind: "refund",
            version: 1,
            steps,
            pivot: 2,
            deadline_ms: 60_000,
            answer_ms: 60_000,
        };
        definition.check().unwrap();
        Self(definition)
    }
}

impl Kind for Refund {
    fn definition(&self) -> &Definition {
        &self.0
    }

    fn read(self: Arc<Self>, _: SagaId, _: &str) -> Result<Box<dyn Content>, CatalogError> {
        Ok(Box::new(Nothing))
    }

    fn command(&self, _: usize, _: StepHeader, _: &State) -> Result<Message, CatalogError> {
        Ok(Message::new(Exchange::Commands, "somebody", "X", "orchestrator", vec![]))
    }

    fn output(&self, _: usize, _: &[u8]) -> Result<String, CatalogError> {
        Ok(String::new())
    }

    fn typed(&self, _: usize, json: &str) -> Result<String, CatalogError> {
        Ok(json.to_owned())
    }

    fn project(&self, _: &State) -> Projection {
        Projection { status: "CREATED", why: None, cancel_requested: false }
    }
}

struct Nothing;

impl Content for Nothing {
    fn call(&self, _: usize, header: StepHeader, _: &State) -> Result<Call, CatalogError> {
        Ok(Call::Screen(proto::risk::v1::ScreenItem { header: Some(header), ..Default::default() }))
    }

    fn announce(&self, _: &Projection, _: i64, _: i64) -> Option<Message> {
        None
    }
}

fn live() -> Live {
    started(Arc::new(Refund::new()), "")
}

/// Just begun.
fn started(kind: Arc<dyn Kind>, input: &str) -> Live {
    let definition = kind.definition();
    let event = Event::Started {
        kind: definition.kind.into(),
        version: definition.version,
        hash: definition.hash(),
        steps: definition.steps.iter().map(|step| step.name.clone()).collect(),
        skipped: vec![],
        deadline: 60_000,
        input: input.to_owned(),
    };
    let started = Recorded { at: 0, trace: String::new(), event };
    let state = State::start(&started.event, 0).unwrap();
    Live::new(SagaId::from_uuid(Uuid::nil()), 0, 1, 1, kind, &started, state)
}

#[test]
fn a_step_that_is_the_pivot_is_called_when_every_fact_before_it_is_durable() {
    let mut live = live();
    assert_eq!(live.decide(1), [0]);
    live.dispatch(0, 1).unwrap();
    live.returned(0, CallOutcome::Done(vec![]), 2);
    assert_eq!(live.decide(2), [1]);
    assert!(live.is_behind(1), "nobody else knows that the claim is done");
    assert!(
        live.transition(2, false).is_none(),
        "and it would not be told before a quarter of a second is over"
    );
    let commit = live.transition(2, true).unwrap().commit_id;
    assert!(live.is_behind(1), "it is on its way, no more");
    assert!(live.is_in_flight(commit));
    live.landed();
    assert!(!live.is_behind(1));
    assert_eq!(live.decide(3), [1]);
}

#[test]
fn an_end_that_is_decided_while_a_commit_is_in_flight_is_over_when_it_is_durable_itself() {
    let mut live = live();
    live.decide(1);
    live.dispatch(0, 1).unwrap();
    live.returned(0, CallOutcome::Done(vec![]), 2);
    live.decide(2);
    live.transition(2, true).unwrap();
    live.landed();
    live.dispatch(1, 3).unwrap();
    // Any fact, slow to land; meanwhile the last one comes.
    live.returned(1, CallOutcome::InDoubt { reason: "?".into() }, 3);
    live.transition(3, true).unwrap();
    live.returned(1, CallOutcome::Done(vec![]), 4);
    assert!(live.decide(4).is_empty());
    assert!(live.is_ended() && live.transition(4, true).is_none());
    live.landed();
    assert!(!live.is_over(), "its end is not in the journal");
    live.transition(5, false).unwrap();
    live.landed();
    assert!(live.is_over());
}

#[test]
fn a_saga_whose_input_cannot_be_read_calls_nobody_and_is_taken_back_all_the_same() {
    let saga = OrderSaga::version(2, 60_000, 60_000).unwrap();
    let mut live = started(Arc::new(saga), "as a later release wrote it");
    live.state.steps.iter_mut().take(4).for_each(|step| step.called = true);
    assert!(live.dispatch(0, 1).is_none());
    assert_eq!(live.label(), Label::Parked);
    let (actor, reason) = ("ops".to_owned(), "no way to read it".to_owned());
    let said = Said::ForceCompensate { actor, reason };
    live.hear(Signal { id: Uuid::from_u128(1), saga: SagaId::from_uuid(Uuid::nil()), said }, 2);
    live.decide(2);
    let sent = live.transition(2, true).unwrap().messages;
    let kinds: Vec<_> = sent.iter().map(|message| message.kind.rsplit('.').next().unwrap()).collect();
    assert_eq!(kinds, ["WithdrawItem", "RefundItem"], "the rest follows the answer");
}

/// A hundred thousand may wait: docs/performance.md says what they take. An allocator has room for 256 bytes and for 512, and the
/// next larger is a quarter more.
#[test]
fn a_waiting_saga_takes_little_room() {
    let (live, step) = (size_of::<super::live::Live>(), size_of::<crate::saga::StepState>());
    assert!(live <= 256 && 7 * step <= 512, "a saga takes {live} bytes and a step {step}");
}
