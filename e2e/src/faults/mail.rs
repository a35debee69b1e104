//! Between the bus and its consumers: commands that take steps back, and their answers.

use std::sync::Arc;

use async_trait::async_trait;
use chassis::bus::{Binding, Bus, Error, Exchange, Handler, Message, Published, Queue, Verdict, header};
use prost::Message as _;
use proto::step::{STEP_ANSWER, StepAnswer, step_answer};
use types::SagaId;

use super::{
    fault::{Direction, Fault, Garbage},
    injector::{Injector, Spot},
};

/// A bus whose consumers of commands and answers meet what is planned for them.
pub(crate) struct FaultyBus {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) injector: Injector,
}

#[async_trait]
impl Bus for FaultyBus {
    async fn publish(&self, messages: &[Message]) -> Vec<Published> {
        self.bus.publish(messages).await
    }

    async fn subscribe(&self, queue: Queue, handler: Arc<dyn Handler>) -> Result<(), Error> {
        let handler = match queue.binding {
            Binding::Commands(_) | Binding::Replies => {
                Arc::new(Faulty { handler, injector: self.injector.clone() }) as Arc<dyn Handler>
            }
            Binding::Events(_) => handler,
        };
        self.bus.subscribe(queue, handler).await
    }
}

struct Faulty {
    handler: Arc<dyn Handler>,
    injector: Injector,
}

#[async_trait]
impl Handler for Faulty {
    async fn handle(&self, message: &Message) -> Verdict {
        match (message.exchange, command_of(message), answer_of(message)) {
            (Exchange::Commands, Some(spot), _) => self.command(&spot, message).await,
            (Exchange::Replies, _, Some((spot, answer))) if spot.direction == Direction::Back => {
                self.answer(&spot, message, answer).await
            }
            (Exchange::Replies, _, Some((spot, _))) => self.settlement(&spot, message).await,
            _ => self.handler.handle(message).await,
        }
    }
}

fn command_of(message: &Message) -> Option<Spot> {
    let header = |name: &str| message.headers.get(name).cloned();
    Some(Spot { saga: header(header::SAGA)?, step: header(header::STEP)?, direction: Direction::Back })
}

fn answer_of(message: &Message) -> Option<(Spot, StepAnswer)> {
    if message.kind != STEP_ANSWER {
        return None;
    }
    let answer = StepAnswer::decode(message.body.as_slice()).ok()?;
    let direction = match answer.direction() {
        step_answer::Direction::Compensation => Direction::Back,
        step_answer::Direction::Forward | step_answer::Direction::Unspecified => Direction::Forward,
    };
    Some((Spot { saga: answer.saga_id.clone(), step: answer.step.clone(), direction }, answer))
}

impl Faulty {
    async fn command(&self, spot: &Spot, message: &Message) -> Verdict {
        self.injector.comes(spot).await;
        let taken = self.injector.take(spot, |fault| {
            matches!(
                fault,
                Fault::Refuse
                    | Fault::Error
                    | Fault::Unable
                    | Fault::TimeoutBefore
                    | Fault::Broken
                    | Fault::Late
            )
        });
        let verdict = match taken {
            Some(Fault::Refuse) => {
                // A person may still see to it that it is done.
                self.injector.keep(&spot.saga, self.later(spot, message.clone()));
                Verdict::Dead("it can never be handled".into())
            }
            Some(Fault::Error) => Verdict::Retry("the consumer failed".into()),
            Some(Fault::Unable) => Verdict::Unavailable("its database is away".into()),
            Some(Fault::TimeoutBefore) => Verdict::Done,
            Some(Fault::Broken) => {
                let verdict = self.handler.handle(message).await;
                if verdict != Verdict::Done {
                    self.injector.give_back(spot);
                    return verdict;
                }
                Verdict::Retry("the acknowledgement was lost".into())
            }
            Some(Fault::Late) => {
                self.injector.keep(&spot.saga, self.later(spot, message.clone()));
                Verdict::Done
            }
            _ => {
                let verdict = self.handler.handle(message).await;
                if verdict == Verdict::Done {
                    self.injector.took_effect(spot);
                }
                if verdict == Verdict::Done && self.injector.was(spot, Fault::Late) {
                    // It was sent again and is handled: now the first one comes.
                    self.injector.deliver_kept(&spot.saga).await;
                }
                return verdict;
            }
        };
        self.injector.done(spot);
        verdict
    }

    async fn answer(&self, spot: &Spot, message: &Message, answer: StepAnswer) -> Verdict {
        self.injector.answered(spot);
        let taken = self.injector.take(spot, |fault| {
            matches!(
                fault,
                Fault::TimeoutAfter | Fault::AfterEnd | Fault::Garbage(_) | Fault::Duplicate | Fault::Again
            )
        });
        let verdict = match taken {
            Some(Fault::TimeoutAfter) => Verdict::Done,
            Some(Fault::AfterEnd) => {
                self.injector.keep(&spot.saga, self.later(spot, message.clone()));
                Verdict::Done
            }
            Some(Fault::Garbage(kind)) => {
                self.handler.handle(&Message { body: spoilt(answer, kind), ..message.clone() }).await
            }
            Some(Fault::Duplicate) => {
                self.handler.handle(message).await;
                self.handler.handle(message).await
            }
            Some(Fault::Again) => {
                self.handler.handle(message).await;
                self.handler.handle(&Message { id: chassis::clock::new_uuid(), ..message.clone() }).await
            }
            _ => return self.handler.handle(message).await,
        };
        self.injector.done(spot);
        verdict
    }

    /// A step whose answers come too late gives none by message in time, either.
    async fn settlement(&self, spot: &Spot, message: &Message) -> Verdict {
        if !self.injector.is_mute(spot) {
            return self.handler.handle(message).await;
        }
        let (handler, message) = (Arc::clone(&self.handler), message.clone());
        self.injector.keep(&spot.saga, Box::pin(async move { drop(handler.handle(&message).await) }));
        Verdict::Done
    }

    fn later(&self, spot: &Spot, message: Message) -> futures_util::future::BoxFuture<'static, ()> {
        let (handler, injector, spot) = (Arc::clone(&self.handler), self.injector.clone(), spot.clone());
        Box::pin(async move {
            let verdict = handler.handle(&message).await;
            injector.late(&spot, format!("{verdict:?}"));
        })
    }
}

fn spoilt(mut answer: StepAnswer, kind: Garbage) -> Vec<u8> {
    match kind {
        Garbage::Saga => answer.saga_id = SagaId::from_uuid(chassis::clock::new_uuid()).to_string(),
        Garbage::Step => answer.step = "elsewhere".into(),
        // Field 1 is a number here.
        Garbage::Done => answer.outcome = Some(step_answer::Outcome::Done(b"\x08\x07".to_vec())),
        Garbage::NoOutcome => answer.outcome = None,
        Garbage::NoDirection => answer.direction = 0,
        Garbage::Undecodable => return vec![0x0a, 0x02, 0xff, 0xff],
    }
    answer.encode_to_vec()
}
