//! Cancel as a message: the same effect, and an answer each time it is asked.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chassis::bus::{Bus as _, Exchange, Handler, Message, Published, Queue, Verdict, header};
use prost::Message as _;
use proto::step::{STEP_ANSWER, StepAnswer, step_answer};

use crate::house::*;

#[derive(Default)]
struct Orchestrator {
    heard: Mutex<Vec<(Message, StepAnswer)>>,
}

#[async_trait]
impl Handler for Orchestrator {
    async fn handle(&self, message: &Message) -> Verdict {
        assert_eq!(message.kind, STEP_ANSWER);
        let answer = StepAnswer::decode(message.body.as_slice()).unwrap();
        self.heard.lock().unwrap().push((message.clone(), answer));
        Verdict::Done
    }
}

fn command(saga: types::SagaId) -> Message {
    let body = cancel_item(saga).encode_to_vec();
    Message::new(Exchange::Commands, "order", "amends.order.v1.CancelItem", "orchestrator", body)
}

async fn heard(orchestrator: &Orchestrator, count: usize) -> Vec<(Message, StepAnswer)> {
    for _ in 0..500 {
        let heard = orchestrator.heard.lock().unwrap().clone();
        if heard.len() >= count {
            return heard;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("fewer than {count} answers");
}

#[tokio::test]
async fn a_cancel_by_message_is_answered_by_message_each_time() {
    let house = House::new().await;
    let orchestrator = Arc::new(Orchestrator::default());
    house.bus.subscribe(Queue::replies(), orchestrator.clone()).await.unwrap();
    let (opened, absent) = (new_saga(), new_saga());
    house.open(vec![open_item(opened)]).await;
    let commands = [command(opened), command(absent), command(opened)];
    assert_eq!(house.bus.publish(&commands).await, [Published::Safe, Published::Safe, Published::Safe]);
    assert_eq!(house.bus.publish(&commands[..1]).await, [Published::Safe]);
    assert_eq!(house.document(opened).await.unwrap().status, "CANCELLED");

    let heard = heard(&orchestrator, 4).await;
    assert_eq!(heard.len(), 4);
    for (message, answer) in &heard {
        assert_eq!(answer.direction(), step_answer::Direction::Compensation);
        assert_eq!(message.headers[header::SAGA], answer.saga_id);
        assert_eq!((message.headers[header::STEP].as_str(), answer.step.as_str()), ("open", "open"));
        assert!(answer.time.is_some());
        let expected = if answer.saga_id == opened.to_string() {
            step_answer::Outcome::Done(Vec::new())
        } else {
            step_answer::Outcome::NotApplied(proto::step::NotApplied {})
        };
        assert_eq!(answer.outcome, Some(expected));
    }
    let answers_to = |command: &Message| {
        heard.iter().filter(|(_, answer)| answer.command_id == command.id.to_string()).count()
    };
    assert_eq!(commands.each_ref().map(answers_to), [2, 1, 1]);
}

#[tokio::test]
async fn what_cannot_be_handled_is_dead_at_once() {
    let house = House::new().await;
    let complete = new_saga();
    house.open(vec![open_item(complete)]).await;
    house.complete(vec![complete_item(complete)]).await;
    let mut unknown = command(new_saga());
    unknown.kind = "amends.inventory.v1.ReleaseItem".into();
    let mut garbage = command(new_saga());
    garbage.body = vec![0xff; 3];
    let mut headless = command(new_saga());
    headless.body.clear();
    for message in [unknown, garbage, headless, command(complete)] {
        let published = house.bus.publish(std::slice::from_ref(&message)).await;
        assert!(matches!(published[0], Published::Dead(_)), "{published:?}");
    }
    assert_eq!(house.document(complete).await.unwrap().status, "COMPLETED");
}
