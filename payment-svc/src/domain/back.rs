//! The way back: from being wanted back to the provider's word that the money went back.
//!
//! What must hold: never more than one refund under one key, never more than was charged, never given up; and a
//! compensation is answered only when nothing of the charge is left or can come.

use chassis::{
    barrier::{self, Outcome},
    seeded::{self, Bug},
};
use chrono::{DateTime, Utc};

use super::{Attempt, Fault, Next, Policy, Said, State, TakeBack, after};

impl Attempt {
    /// A compensation is asked for. With `told`, the one who asks has no command id and will be told to wait.
    pub fn take_back(&mut self, policy: &Policy, may_send: bool, told: bool, now: DateTime<Utc>) -> TakeBack {
        let wanted = if told { Outcome::Pending } else { Outcome::Started };
        match barrier::back(Some(&self.record())) {
            barrier::Back::Done | barrier::Back::NotApplied | barrier::Back::Tombstone => TakeBack::Answered,
            barrier::Back::InProgress => {
                if told {
                    self.back = Some(Outcome::Pending);
                }
                TakeBack::Later(Next::Rest)
            }
            barrier::Back::TakeBack => {
                self.back = Some(wanted);
                TakeBack::Later(self.begin_refund(policy, may_send, now))
            }
            // It was refused, but money was seen later and is on its way back or there already.
            barrier::Back::Block if self.state == State::Refunding => {
                self.back = Some(wanted);
                TakeBack::Later(Next::Rest)
            }
            barrier::Back::Block => {
                let done = self.state == State::Refunded;
                self.back = Some(if done { Outcome::Done } else { Outcome::Blocked });
                TakeBack::Answered
            }
            barrier::Back::WantBack => {
                self.back = Some(wanted);
                let blindly = seeded::is(Bug::RefundWithoutLookUp);
                if self.sent.is_some() && !blindly {
                    return TakeBack::Later(Next::Rest);
                }
                self.nothing_is_charged(policy, may_send, now);
                self.next_look = self.next_look.filter(|_| !blindly);
                TakeBack::Answered
            }
        }
    }

    /// The money is to go back: from here on nothing else happens to this record.
    pub(super) fn begin_refund(&mut self, policy: &Policy, may_send: bool, now: DateTime<Utc>) -> Next {
        self.state = State::Refunding;
        self.rest();
        if seeded::is(Bug::RefundNotSent) {
            self.refund_is(&Said::Done { reference: String::new() }, policy, now);
            return Next::Rest;
        }
        self.send_refund(policy, may_send, now)
    }

    /// It is proven that nothing is given back and nothing is under way: stamps a send, if one can go now.
    pub(super) fn send_refund(&mut self, policy: &Policy, may_send: bool, now: DateTime<Utc>) -> Next {
        if !may_send {
            self.sent = None;
            self.look_later(policy, now);
            return Next::Rest;
        }
        let begun = *self.refund_begun.get_or_insert(now);
        if now >= after(begun, policy.key_life) {
            // The provider has forgotten the old key, under which nothing happened.
            self.refund_keys += 1;
            self.refund_begun = Some(now);
        }
        self.refund_sends += 1;
        self.sent = Some(now);
        self.looks = 0;
        self.next_look = Some(after(now, policy.call_timeout + policy.look));
        Next::Refund
    }

    pub(super) fn refund_came_back(
        &mut self,
        send: i32,
        result: &Result<Said, Fault>,
        policy: &Policy,
        now: DateTime<Utc>,
    ) -> Next {
        if self.state != State::Refunding {
            return Next::Rest;
        }
        match result {
            Ok(said) => self.refund_is(said, policy, now),
            Err(_) if send != self.refund_sends => {}
            Err(Fault::NotSent(_)) => {
                self.sent = None;
                self.looks = self.refund_sends.saturating_sub(1);
                self.look_later(policy, now);
            }
            Err(Fault::Unknown(_)) => {
                self.looks = 0;
                self.look_later(policy, now);
            }
        }
        Next::Rest
    }

    pub(super) fn refund_found(
        &mut self,
        at: DateTime<Utc>,
        result: &Result<Option<Said>, Fault>,
        policy: &Policy,
        may_send: bool,
        now: DateTime<Utc>,
    ) -> Next {
        if self.state != State::Refunding {
            return Next::Rest;
        }
        match result {
            Ok(Some(said)) => self.refund_is(said, policy, now),
            Ok(None) if self.proves(at, policy) => return self.send_refund(policy, may_send, now),
            Ok(None) | Err(_) => self.look_later(policy, now),
        }
        Next::Rest
    }

    fn refund_is(&mut self, said: &Said, policy: &Policy, now: DateTime<Utc>) {
        match said {
            Said::Done { reference } => {
                self.state = State::Refunded;
                self.refund_reference = Some(reference.clone());
                if matches!(self.back, Some(Outcome::Started | Outcome::Pending)) {
                    self.back = Some(Outcome::Done);
                }
                self.rest();
            }
            // Not an end: the money is owed. The provider is asked again and a person sees it in the attempt.
            Said::Declined(decline) => {
                self.decline = Some(decline.clone());
                self.look_later(policy, now);
            }
            Said::Pending => self.look_later(policy, now),
        }
    }
}
