//! The charge, until it is known whether money was taken.
//!
//! What must hold: a charge is sent only after a stamp of its own, never once it is wanted back, never while an earlier
//! send may still arrive, never with a key the provider has forgotten. Money that shows up after the end goes back.

use chassis::{
    barrier::Outcome,
    seeded::{self, Bug},
};
use chrono::{DateTime, Utc};

use super::{Attempt, Category, Decline, Fault, Next, PROVIDER_UNAVAILABLE, Policy, Said, State, after};

impl Attempt {
    /// Stamps a send and sees to it that somebody looks if nobody comes back.
    pub(super) fn stamp_charge(&mut self, policy: &Policy, now: DateTime<Utc>) -> Next {
        self.state = State::Started;
        self.sends += 1;
        self.sent = Some(now);
        self.looks = 0;
        self.next_look = Some(after(now, policy.call_timeout + policy.look));
        Next::Charge
    }

    pub(super) fn charge_came_back(
        &mut self,
        send: i32,
        result: &Result<Said, Fault>,
        policy: &Policy,
        may_send: bool,
        now: DateTime<Utc>,
    ) -> Next {
        match result {
            // The provider's word about the key holds whichever send it answers.
            Ok(said) => self.charge_is(said, policy, may_send, now),
            // What an older send met says nothing about the one under way, and nobody unsays PENDING but the provider.
            Err(_) if send != self.sends || !self.state.is_open() || self.state == State::Pending => {
                Next::Rest
            }
            Err(Fault::NotSent(_)) => {
                self.sent = None;
                if self.back.is_some() || self.sends >= policy.sends {
                    return self.nothing_is_charged(policy, may_send, now);
                }
                self.put_off(policy, now)
            }
            Err(Fault::Unknown(_)) => {
                self.state = State::InDoubt;
                self.looks = 0;
                self.look_later(policy, now);
                Next::Rest
            }
        }
    }

    pub(super) fn charge_found(
        &mut self,
        at: DateTime<Utc>,
        result: &Result<Option<Said>, Fault>,
        policy: &Policy,
        may_send: bool,
        now: DateTime<Utc>,
    ) -> Next {
        match result {
            Ok(Some(said)) => self.charge_is(said, policy, may_send, now),
            Ok(None) if self.state.is_open() && self.proves(at, policy) => {
                self.nothing_is_charged(policy, may_send, now)
            }
            Ok(None) | Err(_) if self.state.is_open() => {
                self.look_later(policy, now);
                Next::Rest
            }
            Ok(None) | Err(_) => {
                if matches!(self.state, State::Declined | State::Blocked) {
                    self.look_out_for_late_money(policy, now);
                }
                Next::Rest
            }
        }
    }

    /// Whether a look-up begun at `at` that found nothing proves that nothing is there.
    pub(super) fn proves(&self, at: DateTime<Utc>, policy: &Policy) -> bool {
        self.sent.is_none_or(|sent| at >= after(sent, policy.horizon))
    }

    fn charge_is(&mut self, said: &Said, policy: &Policy, may_send: bool, now: DateTime<Utc>) -> Next {
        match said {
            Said::Done { reference } => self.money_is_taken(reference, policy, may_send, now),
            Said::Declined(decline) if self.state.is_open() => {
                self.refuse(decline.clone(), State::Declined);
                self.rest();
                Next::Rest
            }
            Said::Pending if self.state.is_open() => {
                if self.state != State::Pending {
                    self.state = State::Pending;
                    self.looks = 0;
                }
                self.look_later(policy, now);
                Next::Rest
            }
            // An end stays an end. Late looks go on while the provider has not decided.
            Said::Declined(_) => {
                if matches!(self.state, State::Declined | State::Blocked) {
                    self.next_look = None;
                }
                Next::Rest
            }
            Said::Pending => {
                if matches!(self.state, State::Declined | State::Blocked) {
                    self.look_later(policy, now);
                }
                Next::Rest
            }
        }
    }

    fn money_is_taken(
        &mut self,
        reference: &str,
        policy: &Policy,
        may_send: bool,
        now: DateTime<Utc>,
    ) -> Next {
        match self.state {
            State::Started | State::Pending | State::InDoubt => {
                self.provider_reference = Some(reference.to_owned());
                self.forward = Outcome::Done;
                self.drop_token();
                if self.back.is_some() {
                    return self.begin_refund(policy, may_send, now);
                }
                self.state = State::Succeeded;
                self.rest();
                Next::Rest
            }
            // Money seen later: the refusal stands, so the money goes back.
            State::Declined | State::Blocked => {
                self.provider_reference = Some(reference.to_owned());
                self.begin_refund(policy, may_send, now)
            }
            State::Succeeded | State::Refunding | State::Refunded => Next::Rest,
        }
    }

    /// It is proven that nothing is charged and nothing is under way: sends (again), or ends.
    pub(super) fn nothing_is_charged(&mut self, policy: &Policy, may_send: bool, now: DateTime<Utc>) -> Next {
        let unavailable = || Decline { code: PROVIDER_UNAVAILABLE.to_owned(), category: Category::Soft };
        if self.back.is_some() || self.sends >= policy.sends || now >= after(self.created, policy.key_life) {
            let blocked = self.back.is_some();
            self.refuse(unavailable(), if blocked { State::Blocked } else { State::Declined });
            self.looks = 0;
            // A first send that surely was not heard leaves nothing to look for.
            if self.sends > 1 || self.sent.is_some() {
                self.look_out_for_late_money(policy, now);
            } else {
                self.next_look = None;
            }
            return Next::Rest;
        }
        if !may_send {
            return self.put_off(policy, now);
        }
        self.stamp_charge(policy, now)
    }

    /// Nothing is under way, and nothing can be sent just now.
    fn put_off(&mut self, policy: &Policy, now: DateTime<Utc>) -> Next {
        let pause = policy.pause(self.looks);
        self.sent = None;
        self.looks = self.looks.saturating_add(1);
        // Whoever waits for the pause sends again; somebody else only if he is gone by then.
        self.next_look = Some(after(now, pause + policy.look));
        Next::Wait(pause)
    }

    fn refuse(&mut self, decline: Decline, state: State) {
        self.state = state;
        self.forward = Outcome::Refused;
        self.decline = Some(decline);
        if self.back.is_some() {
            self.back = Some(Outcome::Blocked);
        }
        self.drop_token();
    }

    /// After an end by proof the provider is asked again, ever more seldom, as long as it knows the key: a send that
    /// was held up somewhere may have charged after all.
    fn look_out_for_late_money(&mut self, policy: &Policy, now: DateTime<Utc>) {
        let since =
            (now - self.sent.unwrap_or(self.created)).to_std().unwrap_or_default().max(policy.horizon);
        let looks = since < policy.key_life && !seeded::is(Bug::LateMoneyNotRefunded);
        self.next_look = looks.then(|| after(now, since));
    }

    fn drop_token(&mut self) {
        if let Some(business) = &mut self.business {
            business.token = None;
        }
    }

    /// Nothing is under way and nobody needs to look.
    pub(super) fn rest(&mut self) {
        self.sent = None;
        self.looks = 0;
        self.next_look = None;
    }
}
