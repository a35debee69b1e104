//! What must hold when all is calm and nothing is left to do: I1, I2, I4, I5, I6, I7, I9.

use chassis::barrier::Outcome;
use orchestrator::saga::{Outcome as End, Phase};
use payment_svc::domain::State as Charge;
use types::{SagaId, StepKey};

use crate::{mark::Mark, orchestrator::tables::SagaRow, people::payment_of, provider, world::World};

impl World {
    /// The last look.
    pub fn judge_the_end(&mut self) {
        self.judge_rest();
        let sagas: Vec<(SagaId, SagaRow)> =
            self.tables.sagas.iter().map(|(saga, row)| (*saga, row.clone())).collect();
        for (saga, row) in &sagas {
            match row.folded.phase {
                Phase::Ended(end) => self.judge_an_end(*saga, row, end),
                Phase::Forward | Phase::Back => self.judge_an_open_saga(*saga, row),
            }
        }
        let mut wrong = Vec::new();
        for customer in &self.people.customers {
            if customer.order.is_none() && !customer.refused {
                wrong.push(format!("I5: {} has no answer", customer.wish.key));
            }
            if customer.order.is_some_and(|order| !self.tables.sagas.contains_key(&order)) {
                wrong.push(format!("I7: {} was acknowledged and is not there", customer.wish.key));
            }
        }
        wrong.into_iter().for_each(|what| self.judge.accuse(what));
    }

    /// I9: nothing is left anywhere.
    fn judge_rest(&mut self) {
        let mut wrong: Vec<String> = self.broker.left().map(|what| format!("I9: {what}")).collect();
        for (room, rows) in &self.outboxes {
            wrong.extend(
                rows.open().map(|m| format!("I9: {} is still in the outbox of {}", m.kind, room.as_str())),
            );
        }
        let unread = self.tables.signals.iter().filter(|row| !row.read);
        wrong.extend(unread.map(|row| format!("I9: a signal of {} was never read", row.signal.saga)));
        wrong.into_iter().for_each(|what| self.judge.accuse(what));
    }

    /// I5: parked with a reason, or it is not over.
    fn judge_an_open_saga(&mut self, saga: SagaId, row: &SagaRow) {
        if row.state == "PARKED" && !row.reason.is_empty() {
            self.mark(Mark::EndsParked);
            self.tell(None, || format!("{saga} stays parked: {}", row.reason));
        } else {
            self.judge.accuse(format!("I5: {saga} is still {} {}", row.state, row.reason));
        }
    }

    fn judge_an_end(&mut self, saga: SagaId, row: &SagaRow, end: End) {
        let Some((charge, _)) = payment_of(saga) else { return };
        let line = self.provider.line(&charge, provider::time(self));
        let (came, went) = self.services.ledger.clearing(saga);
        let key = |step: &str| step.parse().ok().map(|step| StepKey { saga, step });
        let document = key("open").and_then(|key| self.services.order.rows.get(&key)).cloned();
        let reservation =
            key("reserve").and_then(|key| self.services.inventory.reservations.get(&key)).cloned();
        let mut wrong = Vec::new();
        let mut claim = |holds: bool, what: String| {
            if !holds {
                wrong.push(format!("{what} ({saga} is {end:?})"));
            }
        };
        match end {
            End::Completed => {
                claim(line.charges == 1 && line.refunds == 0, format!("I2: the provider has {line:?}"));
                claim(
                    (came, went) == (line.charged, 0),
                    format!("I1: the books say {came} came and {went} went"),
                );
                claim(
                    document.is_some_and(|d| d.closed.is_some()),
                    "I5: its document is not complete".into(),
                );
                claim(reservation.is_some_and(|r| r.closed.is_some()), "I4: its stock is not sold".into());
                claim(row.status == "COMPLETED", format!("I5: its order is {}", row.status));
            }
            End::Compensated => {
                claim(line.charged == line.refunded, format!("I2: the provider has {line:?}"));
                claim(came == went, format!("I1: the books say {came} came and {went} went"));
                // A parked Reverse may be overtaken by the refund: then both are shown twice (`suspend.rs`).
                let shown = [line.charged, line.charged * 2].contains(&came);
                claim(shown, format!("I1: the provider took {}, the books say {came} came", line.charged));
                let live = |r: &crate::services::inventory::Reservation| r.is_live() || r.closed.is_some();
                claim(!reservation.is_some_and(|r| live(&r)), "I4: its stock is held".into());
                let open = |record: &chassis::barrier::Record| {
                    record.back.is_none() && record.forward == Outcome::Done
                };
                claim(!document.is_some_and(|d| open(&d.record)), "I6: its document is open".into());
                claim(row.status == "CANCELLED", format!("I5: its order is {}", row.status));
            }
        }
        let attempt = self.services.payment.attempts.get(&charge).map(|attempt| attempt.state);
        let is_over =
            !matches!(attempt, Some(Charge::Started | Charge::Pending | Charge::InDoubt | Charge::Refunding));
        claim(is_over, format!("I2: its charge is still {attempt:?}"));
        wrong.into_iter().for_each(|what| self.judge.accuse(what));
    }
}
