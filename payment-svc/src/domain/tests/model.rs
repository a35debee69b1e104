//! A provider that is honest about its keys, a network that loses and delays, processes that die: in any order.

use super::*;

/// What the provider knows under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Undecided,
    Effective,
    Declined,
}

#[derive(Debug)]
struct Request {
    refund: bool,
    send: i32,
    sent: DateTime<Utc>,
    /// It reached the provider.
    arrived: bool,
    /// Its process lives and waits for the answer.
    waited_for: bool,
}

#[derive(Debug)]
struct World {
    attempt: Attempt,
    now: i64,
    charge: Known,
    refunds: u32,
    requests: Vec<Request>,
    /// How long a request may be under way, in seconds.
    delay: i64,
    charges_sent: i32,
    refunds_sent: i32,
}

/// One thing that may happen. The number chooses among what is there.
#[derive(Debug, Clone, Copy)]
enum Act {
    Pass(i64),
    Arrive(usize, u8),
    Answer(usize),
    TimeOut(usize),
    Refuse(usize),
    Die,
    Decide(bool),
    Look,
    LookFails,
    Due,
    WantBack(bool),
    Ask,
    Tell,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (1..60_i64).prop_map(Act::Pass),
        4 => (0..4_usize, 0..4_u8).prop_map(|(which, how)| Act::Arrive(which, how)),
        4 => (0..4_usize).prop_map(Act::Answer),
        2 => (0..4_usize).prop_map(Act::TimeOut),
        1 => (0..4_usize).prop_map(Act::Refuse),
        1 => Just(Act::Die),
        1 => any::<bool>().prop_map(Act::Decide),
        4 => Just(Act::Look),
        1 => Just(Act::LookFails),
        2 => Just(Act::Due),
        1 => any::<bool>().prop_map(Act::WantBack),
        1 => Just(Act::Ask),
        1 => Just(Act::Tell),
    ];
    prop::collection::vec(act, 0..60)
}

impl World {
    fn new(delay: i64) -> Self {
        let mut world = Self {
            attempt: started(),
            now: 0,
            charge: Known::Nothing,
            refunds: 0,
            requests: Vec::new(),
            delay,
            charges_sent: 0,
            refunds_sent: 0,
        };
        world.perform(Next::Charge);
        world
    }

    fn time(&self) -> DateTime<Utc> {
        at(self.now)
    }

    fn perform(&mut self, next: Next) {
        let refund = match next {
            Next::Charge => false,
            Next::Refund => true,
            Next::Wait(_) | Next::Rest => return,
        };
        assert_eq!(self.attempt.sent, Some(self.time()), "sent without a stamp");
        let send = if refund {
            self.refunds_sent += 1;
            assert_eq!(self.attempt.refund_sends, self.refunds_sent);
            self.refunds_sent
        } else {
            assert!(self.attempt.back.is_none(), "sent although it is wanted back");
            let under_way = |r: &Request| !r.arrived && (self.time() - r.sent).num_seconds() < self.delay;
            assert!(self.delay > 45 || !self.requests.iter().any(under_way), "sent in parallel");
            self.charges_sent += 1;
            assert_eq!(self.attempt.sends, self.charges_sent);
            self.charges_sent
        };
        self.requests.push(Request { refund, send, sent: self.time(), arrived: false, waited_for: true });
    }

    fn apply(&mut self, event: &Event) {
        let next = self.attempt.apply(event, &POLICY, true, self.time());
        self.perform(next);
        self.check();
    }

    /// What must hold after every step while the network keeps its horizon.
    fn check(&self) {
        assert!(self.refunds <= u32::from(self.charge == Known::Effective), "more given back than taken");
        assert!(self.attempt.sends <= POLICY.sends, "sent too often");
        if self.delay > 45 {
            return;
        }
        let a = &self.attempt;
        match a.forward {
            Outcome::Done => assert_eq!(self.charge, Known::Effective),
            Outcome::Refused => assert_ne!(self.charge, Known::Effective),
            _ => {}
        }
        if matches!(a.back, Some(Outcome::Done | Outcome::Blocked)) {
            assert_eq!(self.refunds, u32::from(self.charge == Known::Effective), "answered too early");
            let may_charge =
                |r: &Request| !r.refund && !r.arrived && (self.time() - r.sent).num_seconds() < 45;
            assert!(
                self.charge != Known::Nothing || !self.requests.iter().any(may_charge),
                "it may still be charged"
            );
        }
    }

    fn arrive(&mut self, which: usize, how: u8) {
        let (now, delay, charge) = (self.time(), self.delay, self.charge);
        let Some(request) = self.requests.get_mut(which) else { return };
        if request.arrived || (now - request.sent).num_seconds() >= delay {
            return;
        }
        request.arrived = true;
        if request.refund {
            self.refunds = 1;
        } else if charge == Known::Nothing {
            self.charge = match how {
                0 => Known::Undecided,
                1 => Known::Declined,
                _ => Known::Effective,
            };
        }
    }

    fn said(known: Known) -> Option<Said> {
        match known {
            Known::Nothing => None,
            Known::Undecided => Some(Said::Pending),
            Known::Effective => Some(done()),
            Known::Declined => Some(declined()),
        }
    }

    fn refund_known(&self) -> Option<Said> {
        (self.refunds > 0).then(done)
    }

    /// The process of this request hears something: an answer, a time-out, or that it was not sent.
    fn hear(&mut self, which: usize, fault: Option<Fault>) {
        let Some(request) = self.requests.get_mut(which) else { return };
        // An answer comes only to what arrived; `not sent` only to what did not, and then never will.
        let fits = match &fault {
            None => request.arrived,
            Some(Fault::NotSent(_)) => !request.arrived,
            Some(Fault::Unknown(_)) => true,
        };
        if !request.waited_for || !fits {
            return;
        }
        request.waited_for = false;
        if matches!(fault, Some(Fault::NotSent(_))) {
            request.arrived = true;
        }
        let (refund, send) = (request.refund, request.send);
        let says = if refund { self.refund_known() } else { Self::said(self.charge) };
        let result = match (fault, says) {
            (Some(fault), _) => Err(fault),
            (None, Some(said)) => Ok(said),
            (None, None) => return,
        };
        self.apply(&if refund { Event::Refunded { send, result } } else { Event::Charged { send, result } });
    }

    fn look(&mut self, fails: bool) {
        let at = self.time();
        let fault = || Err(unknown());
        if self.attempt.sent.is_none()
            && (self.attempt.state.is_open() || self.attempt.state == State::Refunding)
        {
            return self.apply(&Event::Due);
        }
        let event = if self.attempt.state == State::Refunding {
            Event::RefundFound { at, result: if fails { fault() } else { Ok(self.refund_known()) } }
        } else {
            Event::ChargeFound { at, result: if fails { fault() } else { Ok(Self::said(self.charge)) } }
        };
        self.apply(&event);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Pass(seconds) => self.now += seconds,
            Act::Arrive(which, how) => self.arrive(which, how),
            Act::Answer(which) => self.hear(which, None),
            Act::TimeOut(which) => self.hear(which, Some(unknown())),
            Act::Refuse(which) => self.hear(which, Some(not_sent())),
            Act::Die => self.requests.iter_mut().for_each(|request| request.waited_for = false),
            Act::Decide(effective) if self.charge == Known::Undecided => {
                self.charge = if effective { Known::Effective } else { Known::Declined };
            }
            Act::Decide(_) => {}
            Act::Look => self.look(false),
            Act::LookFails => self.look(true),
            Act::Due => self.apply(&Event::Due),
            Act::WantBack(told) => {
                if let TakeBack::Later(next) = self.attempt.take_back(&POLICY, true, told, self.time()) {
                    self.perform(next);
                }
                self.check();
            }
            Act::Ask => drop(self.attempt.asked(&[1])),
            Act::Tell => self.apply(&Event::Tell),
        }
    }

    /// From here on everything works: the resolver alone brings it to an end.
    fn settle(&mut self) {
        if self.charge == Known::Undecided {
            self.charge = Known::Effective;
        }
        for _ in 0..200 {
            let Some(next_look) = self.attempt.next_look else { return };
            self.now = self.now.max((next_look - at(0)).num_seconds() + 1);
            self.look(false);
            let last = self.requests.len().saturating_sub(1);
            self.arrive(last, 3);
            self.hear(last, None);
        }
        panic!("it never comes to rest: {self:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever happens, the resolver alone ends it, and the money is where the saga was told it is.
    #[test]
    fn it_ends_and_the_money_is_where_it_was_said_to_be(acts in acts()) {
        let mut world = World::new(45);
        acts.into_iter().for_each(|act| world.act(act));
        world.settle();
        let a = &world.attempt;
        let taken = u32::from(world.charge == Known::Effective);
        match a.state {
            State::Succeeded => prop_assert_eq!((taken, world.refunds, a.back), (1, 0, None)),
            State::Declined | State::Blocked => prop_assert_eq!((taken, world.refunds), (0, 0)),
            State::Refunded => prop_assert_eq!((taken, world.refunds), (1, 1)),
            other => prop_assert!(false, "it rests in {:?}", other),
        }
        prop_assert!(!matches!(a.forward, Outcome::Started | Outcome::Pending));
        prop_assert!(!matches!(a.back, Some(Outcome::Started | Outcome::Pending)), "a compensation without an answer");
    }

    /// Wanted back at any point: net zero.
    #[test]
    fn wanted_back_at_any_point_comes_to_nothing(before in acts(), after in acts(), told in any::<bool>()) {
        let mut world = World::new(45);
        before.into_iter().for_each(|act| world.act(act));
        world.act(Act::WantBack(told));
        after.into_iter().for_each(|act| world.act(act));
        world.settle();
        prop_assert_eq!(world.refunds, u32::from(world.charge == Known::Effective));
        prop_assert!(matches!(world.attempt.back, Some(Outcome::Done | Outcome::Blocked)));
    }

    /// A network that breaks its promise and delivers an hour late: money that was refused goes back all the same.
    #[test]
    fn money_that_comes_later_than_it_may_goes_back(acts in acts()) {
        let mut world = World::new(3600);
        acts.into_iter().for_each(|act| world.act(act));
        world.settle();
        let kept = u32::from(world.charge == Known::Effective) - world.refunds;
        prop_assert_eq!(kept, u32::from(world.attempt.state == State::Succeeded));
    }
}
