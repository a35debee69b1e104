//! Customers who order, ask again and cancel; reviewers who decide; operators who look after what is parked.

use chassis::barrier::Outcome;
use orchestrator::{
    catalog::order::{Input, Line},
    saga::{Back, Phase, Resolution, State},
    signal::Said,
};
use payment_svc::domain::State as Charge;
use risk_svc::domain::Knock;
use types::{PaymentId, SagaId, StepKey, StepName};

use crate::{
    mark::Mark,
    orchestrator::doors::{self, Answer, Wish},
    process::{ProcessId, Room},
    services::{self, ledger, risk},
    world::World,
};

/// How long a customer waits before asking again, in milliseconds.
const ASKS_AGAIN: i64 = 4_000;
/// How often an operator looks when all is calm: whoever is parked after that stays so.
const CALM_ROUNDS: u32 = 30;

/// Somebody who wants an order.
#[derive(Debug, Clone)]
pub struct Customer {
    pub wish: Wish,
    /// Uses the key of another for something else.
    pub is_second: bool,
    /// What was acknowledged.
    pub order: Option<SagaId>,
    pub refused: bool,
}

/// All people.
#[derive(Debug, Default)]
pub struct People {
    pub customers: Vec<Customer>,
    calm_rounds: u32,
}

impl World {
    /// Who wants what, and when.
    pub fn plan_people(&mut self) {
        for number in 0..self.weather.orders {
            let is_second = number > 0 && self.luck.chance(100);
            let of = if is_second { number - 1 } else { number };
            let wish =
                Wish { key: format!("key {of}"), fingerprint: number as u64, input: self.some_order() };
            self.people.customers.push(Customer { wish, is_second, order: None, refused: false });
            let at = self.luck.between(200, self.weather.storm * 6 / 10);
            self.after(at, move |w| w.ask(number));
            if self.luck.chance(self.weather.asks_twice) {
                let delay = at + self.luck.between(0, 30);
                self.after(delay, move |w| w.ask(number));
            }
        }
        let delay = self.luck.between(1_000, 4_000);
        self.idle_after(delay, Self::review);
        self.idle_after(self.weather.operator, Self::operate);
    }

    fn some_order(&mut self) -> Input {
        let has_trouble = self.luck.chance(self.weather.trouble);
        let trouble = if has_trouble { self.luck.below(4) } else { usize::MAX };
        let token = if has_trouble && trouble > 2 {
            self.luck.pick(&["tok_decline", "tok_insufficient_funds", "tok_never_answers", "tok_nonsense"])
        } else {
            self.luck.pick(&[
                "tok_approve",
                "tok_approve",
                "tok_timeout_before",
                "tok_timeout_after",
                "tok_slow",
                "tok_error_once",
            ])
        };
        let is_large = self.luck.chance(200);
        let price = if is_large { risk::LARGE } else { self.luck.between(1, 900) };
        let sku = if trouble == 0 { "P9" } else { self.luck.pick(&["P1", "P2"]) };
        let quantity = self.luck.between(1, 3);
        let subtotal = price * quantity;
        let tax = subtotal / 5;
        Input {
            customer_id: if trouble == 1 { risk::DENIED.into() } else { "c_1".into() },
            merchant_id: if trouble == 2 { ledger::CLOSED.into() } else { "m_1".into() },
            currency: "EUR".into(),
            lines: Box::new([Line { sku: sku.into(), quantity, unit_price: price, line_total: subtotal }]),
            subtotal,
            tax,
            total: subtotal + tax,
            card_token: token.into(),
            metadata: Default::default(),
            accepted_at: 0,
        }
    }

    fn some_door(&mut self, room: Room) -> Option<ProcessId> {
        let doors = self.running(room);
        if doors.is_empty() { None } else { Some(self.luck.pick(&doors)) }
    }

    /// A customer asks, and asks again until there is an answer.
    fn ask(&mut self, number: usize) {
        let customer = &self.people.customers[number];
        if customer.order.is_some() || customer.refused {
            return;
        }
        let wish = customer.wish.clone();
        self.after(ASKS_AGAIN, move |w| w.ask(number));
        let Some(door) = self.some_door(Room::Orchestrator) else { return };
        if self.luck.chance(self.weather.call_lost) {
            return;
        }
        let delay = self.luck.between(0, 5);
        self.of(door, delay, move |w| {
            doors::create(w, door, wish, Box::new(move |w, answer| w.answer_customer(number, answer)));
        });
    }

    fn answer_customer(&mut self, number: usize, answer: Answer) {
        if self.luck.chance(self.weather.reply_lost) {
            self.mark(Mark::ReplyLost);
            return;
        }
        let customer = &mut self.people.customers[number];
        match answer {
            Answer::Order { saga, replayed } => {
                if customer.order.is_some_and(|before| before != saga) {
                    let key = customer.wish.key.clone();
                    return self.judge.accuse(format!("I8: {key} was answered with two orders"));
                }
                let is_new = customer.order.replace(saga).is_none();
                let key = customer.wish.key.clone();
                self.judge_an_order(&key, saga);
                self.tell(None, || format!("{key} is acknowledged, replayed {replayed}"));
                if is_new && self.luck.chance(self.weather.cancels) {
                    let delay = self.luck.pick(&[0, 30, 300, 3_000]);
                    self.after(delay, move |w| w.cancel(saga));
                }
            }
            Answer::KeyReused => {
                customer.refused = true;
                let rivals = self.people.customers.iter().filter(|one| one.is_second).count();
                if rivals == 0 {
                    self.judge.accuse("I8: a key was refused that nobody used for anything else".into());
                }
            }
            Answer::Yes | Answer::No | Answer::Unavailable => {}
        }
    }

    fn cancel(&mut self, saga: SagaId) {
        let Some(door) = self.some_door(Room::Orchestrator) else { return };
        self.of(door, 2, move |w| {
            doors::cancel(
                w,
                door,
                saga,
                Box::new(move |w, answer| match answer {
                    Answer::Yes => w.mark(Mark::CancelHeard),
                    Answer::Order { .. } | Answer::KeyReused | Answer::No | Answer::Unavailable => {}
                }),
            );
        });
    }

    /// A reviewer decides what is open, or does not come to it in time.
    fn review(&mut self) {
        if let Some(door) = self.some_door(Room::Risk) {
            for key in self.services.risk.reviews() {
                if self.luck.chance(400) {
                    let approve = self.luck.chance(650);
                    self.of(door, 1, move |w| risk::knock_at(w, door, key, Knock::Decision { approve }));
                }
            }
        }
        if self.storm {
            let delay = self.luck.between(1_000, 6_000);
            self.idle_after(delay, Self::review);
        }
    }

    /// An operator looks at what is parked.
    fn operate(&mut self) {
        if self.weather.unattended {
            return;
        }
        let parked: Vec<SagaId> = {
            let rows = self.tables.sagas.iter().filter(|(_, row)| row.state == "PARKED");
            rows.map(|(saga, _)| *saga).collect()
        };
        if let Some(door) = self.some_door(Room::Orchestrator) {
            for saga in &parked {
                if let Some(said) = self.verb_for(*saga) {
                    let saga = *saga;
                    self.of(door, 1, move |w| doors::verb(w, door, saga, said));
                }
            }
        }
        if self.storm {
            self.idle_after(self.weather.operator, Self::operate);
        } else if self.people.calm_rounds < CALM_ROUNDS {
            self.people.calm_rounds += 1;
            // It is work to look after what is parked; there may be more of it later.
            if parked.is_empty() {
                self.idle_after(20_000, Self::operate);
            } else {
                self.after(20_000, Self::operate);
            }
        }
    }

    fn verb_for(&mut self, saga: SagaId) -> Option<Said> {
        let row = self.tables.sagas.get(&saga)?;
        let state = row.folded.clone();
        let (actor, reason) = ("o_1".to_owned(), "drill".to_owned());
        let lot = self.luck.below(10);
        if let Some(resolve) = self.truth(saga, &state).filter(|_| lot < 9) {
            self.mark(Mark::OperatorResolves);
            return Some(resolve);
        }
        if self.take_back_by_hand(saga, &state) {
            return None;
        }
        if state.phase == Phase::Forward && !state.pivot_passed && lot < 6 {
            self.mark(Mark::OperatorForces);
            return Some(Said::ForceCompensate { actor, reason });
        }
        self.mark(Mark::OperatorRetries);
        Some(Said::Retry { actor, reason })
    }

    /// A command is dead: sometimes a person goes to the participant's own door, and says so at the next look.
    fn take_back_by_hand(&mut self, saga: SagaId, state: &State) -> bool {
        let Some(step) = state.steps.iter().find(|step| matches!(step.back(), Back::Parked { .. })) else {
            return false;
        };
        let room = match step.name.as_str() {
            "open" => Room::Order,
            "reserve" => Room::Inventory,
            "post" => Room::Ledger,
            _ => return false,
        };
        let key = StepKey { saga, step: step.name.clone() };
        if self.back_of(&key).is_some() || self.luck.chance(250) {
            return false;
        }
        let Some(door) = self.some_door(room) else { return false };
        self.of(door, 1, move |w| services::take_back_by_hand(w, door, key));
        true
    }

    /// What a person finds out about a compensation that is parked: the outcome, where the participant has one.
    fn truth(&self, saga: SagaId, state: &State) -> Option<Said> {
        let step = state.steps.iter().find(|step| matches!(step.back(), Back::Parked { .. }))?.name.clone();
        let back = self.back_of(&StepKey { saga, step: step.clone() })?;
        let resolution = match back {
            Outcome::Done => Resolution::Done,
            Outcome::Blocked => Resolution::NotApplied,
            Outcome::Started | Outcome::Pending | Outcome::Refused => return None,
        };
        Some(Said::Resolve {
            step,
            compensation: true,
            resolution,
            output: String::new(),
            actor: "o_1".into(),
            reason: "looked it up".into(),
            evidence: "the participant's record".into(),
        })
    }

    fn back_of(&self, key: &StepKey) -> Option<Outcome> {
        match key.step.as_str() {
            "open" => self.services.order.rows.get(key)?.record.back,
            "reserve" => self.services.inventory.reservations.get(key)?.record.back,
            "charge" => {
                let attempt = self.services.payment.attempts.get(key)?;
                // Only what is surely over.
                let is_over = matches!(attempt.state, Charge::Refunded | Charge::Blocked | Charge::Declined);
                attempt.back.filter(|_| is_over)
            }
            "post" => {
                self.services.ledger.rows.get(&(key.clone(), ledger::Kind::Reverse)).map(|row| row.outcome)
            }
            _ => None,
        }
    }

    /// Nothing goes wrong any more: reviewers and operators look once more, dead messages are replayed.
    pub fn calm_people(&mut self) {
        self.after(500, Self::review);
        self.after(1_000, Self::operate);
        self.after(1_500, Self::replay_dead);
        for number in 0..self.people.customers.len() {
            let delay = self.luck.between(0, 2_000);
            self.after(delay, move |w| w.ask(number));
        }
    }
}

/// The payment of a saga's charge.
#[must_use]
pub fn payment_of(saga: SagaId) -> Option<(StepKey, PaymentId)> {
    let step: StepName = "charge".parse().ok()?;
    let payment = PaymentId::from_uuid(saga.derive(&step));
    Some((StepKey { saga, step }, payment))
}
