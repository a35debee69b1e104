//! Replies in: what participants answer by message becomes signals.
//!
//! Commands go out through the outbox, in the commit that decided them (see [`journal`](crate::journal)). Their answers,
//! late outcomes of steps, and notices of dead commands come to `orchestrator.replies`; any instance stores them, the
//! owner reads them.

use async_trait::async_trait;
use chassis::{
    batcher::Batcher,
    bus::{DEAD_NOTICE, Handler, Message, Verdict, header},
};
use prost::Message as _;
use proto::step::{STEP_ANSWER, StepAnswer, step_answer};
use types::SagaId;

use crate::signal::{Said, Signal, StoreSignals};

/// Takes messages from `orchestrator.replies`.
pub(crate) struct Replies {
    pub signals: Batcher<StoreSignals>,
}

#[async_trait]
impl Handler for Replies {
    async fn handle(&self, message: &Message) -> Verdict {
        let signal = match read(message) {
            Ok(signal) => signal,
            Err(why) => return Verdict::Dead(why),
        };
        match self.signals.submit(signal, None).await {
            Ok(()) => Verdict::Done,
            Err(none) => none.into(),
        }
    }
}

/// What a message of the queue says to which saga.
///
/// # Errors
/// What is wrong with it, for people: it can never be handled.
pub fn read(message: &Message) -> Result<Signal, String> {
    match message.kind.as_str() {
        STEP_ANSWER => {
            let answer = StepAnswer::decode(message.body.as_slice()).map_err(|e| e.to_string())?;
            let saga: SagaId = answer.saga_id.parse().map_err(|e| format!("saga_id: {e}"))?;
            let _: types::StepName = answer.step.parse().map_err(|e| format!("step: {e}"))?;
            // A newer build may know what this says; guessing which way it goes would be worse than waiting for that.
            if step_answer::Direction::try_from(answer.direction).is_err() {
                return Err(format!("an answer of direction {}", answer.direction));
            }
            if answer.outcome.is_none() {
                return Err("an answer without an outcome".into());
            }
            if answer.direction() == step_answer::Direction::Unspecified {
                return Err("an answer that is neither to a step nor to a compensation".into());
            }
            Ok(Signal { id: message.id, saga, said: Said::Answer { answer: message.body.clone() } })
        }
        DEAD_NOTICE => {
            let header =
                |name: &str| message.headers.get(name).ok_or_else(|| format!("header {name} is missing"));
            let saga = header(header::SAGA)?.parse().map_err(|e| format!("saga: {e}"))?;
            let step = header(header::STEP)?.parse().map_err(|e| format!("step: {e}"))?;
            let command_id = header(header::COMMAND_ID)?.clone();
            let reason = header(header::REASON)?.clone();
            Ok(Signal { id: message.id, saga, said: Said::Dead { step, command_id, reason } })
        }
        other => Err(format!("{other} is not for orchestrators")),
    }
}

#[cfg(test)]
mod tests {
    use chassis::bus::Exchange;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_dead_at_once() {
        let message = |kind: &str, body: Vec<u8>| {
            Message::new(Exchange::Replies, "orchestrator", kind, "payment", body)
        };
        assert!(read(&message(STEP_ANSWER, vec![0xff, 1, 2])).is_err());
        assert!(read(&message(STEP_ANSWER, StepAnswer::default().encode_to_vec())).is_err());
        let neither = StepAnswer {
            saga_id: "saga_01h2xcejqtf2nbrexx3vqjhp41".into(),
            step: "reserve".into(),
            outcome: Some(step_answer::Outcome::NotApplied(proto::step::NotApplied {})),
            ..StepAnswer::default()
        };
        assert!(read(&message(STEP_ANSWER, neither.encode_to_vec())).is_err());
        assert!(read(&message("amends.inventory.v1.ReleaseItem", vec![])).is_err());
        let sideways = StepAnswer {
            saga_id: "saga_01h2xcejqtf2nbrexx3vqjhp41".into(),
            step: "reserve".into(),
            direction: 3,
            outcome: Some(step_answer::Outcome::Done(vec![])),
            ..StepAnswer::default()
        };
        assert!(read(&message(STEP_ANSWER, sideways.encode_to_vec())).is_err());
        assert!(read(&message(DEAD_NOTICE, vec![])).is_err());
    }

    #[test]
    fn a_dead_notice_names_its_command() {
        let command = Message::new(Exchange::Commands, "inventory", "x", "orchestrator", vec![])
            .with(header::SAGA, "saga_01h2xcejqtf2nbrexx3vqjhp41")
            .with(header::STEP, "reserve");
        let notice = command.dead_notice("poison");
        let signal = read(&notice).unwrap();
        let Said::Dead { command_id, reason, .. } = signal.said else { panic!("{signal:?}") };
        assert_eq!((command_id, reason.as_str()), (command.id.to_string(), "poison"));
        assert_eq!(notice.id, command.dead_notice("poison").id);
    }
}
