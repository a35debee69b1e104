//! When it opens, whom it lets through, and how it comes back.

use super::*;

const QUICK: Options = Options {
    failures: 3,
    cool_down_min: Duration::from_millis(20),
    cool_down_max: Duration::from_millis(80),
    probes: 3,
};

fn opened() -> Breaker {
    let breaker = Breaker::new("callee", QUICK);
    for _ in 0..3 {
        breaker.permit(1).unwrap().transport_failure();
    }
    assert_eq!(breaker.state(), State::Open);
    breaker
}

fn cooled_down() -> Breaker {
    let breaker = opened();
    std::thread::sleep(QUICK.cool_down_min + Duration::from_millis(5));
    breaker
}

#[test]
fn failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
    let breaker = Breaker::new("callee", QUICK);
    let mut permit = breaker.permit(50).unwrap();
    assert_eq!(permit.granted(), 50);
    for outcome in [Outcome::Failed, Outcome::Failed, Outcome::Ok, Outcome::Failed, Outcome::Failed] {
        permit.item(outcome);
    }
    // failsafe counts failures since it was last closed, unless told of a success: this pins that it is told.
    assert_eq!(breaker.state(), State::Closed);
    permit.item(Outcome::Failed);
    assert_eq!(breaker.state(), State::Open);
    let open = breaker.permit(1).unwrap_err();
    assert!(open.retry_after > Duration::ZERO && open.retry_after <= QUICK.cool_down_min);
    assert!(breaker.retry_after() <= open.retry_after);
}

#[test]
fn one_exchange_fails_once_however_many_items_it_had() {
    let breaker = Breaker::new("callee", QUICK);
    breaker.permit(50).unwrap().transport_failure();
    breaker.permit(50).unwrap().transport_failure();
    assert_eq!(breaker.state(), State::Closed);
    breaker.permit(50).unwrap().transport_failure();
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn half_open_admits_no_more_than_its_probes_however_many_call() {
    let breaker = cooled_down();
    let barrier = std::sync::Barrier::new(10);
    let permits: Vec<_> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    breaker.permit(1)
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(permits.iter().filter(|permit| permit.is_ok()).count(), 3);
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[test]
fn a_half_open_slice_is_no_larger_than_the_free_probes_and_a_dropped_one_frees_them() {
    let breaker = cooled_down();
    let one = breaker.permit(1).unwrap();
    let slice = breaker.permit(50).unwrap();
    assert_eq!(slice.granted(), 2);
    assert!(breaker.permit(1).is_err());
    drop(slice);
    assert_eq!(breaker.state(), State::HalfOpen, "a dropped call proves nothing");
    assert_eq!(breaker.permit(50).unwrap().granted(), 2);
    drop(one);
    assert_eq!(breaker.permit(50).unwrap().granted(), 3);
}

#[test]
fn a_failed_probe_opens_it_for_longer() {
    let breaker = cooled_down();
    breaker.permit(1).unwrap().transport_failure();
    assert_eq!(breaker.state(), State::Open);
    let longer = breaker.retry_after();
    assert!(longer > QUICK.cool_down_min.mul_f64(0.9) && longer <= QUICK.cool_down_min * 2, "{longer:?}");
}

#[test]
fn after_closing_the_window_ramps_up_until_nothing_is_held_back() {
    let breaker = cooled_down();
    let mut window = 3;
    while window <= RAMP_END {
        let mut permit = breaker.permit(100_000).unwrap();
        assert_eq!(permit.granted(), window);
        for _ in 0..permit.granted() {
            permit.item(Outcome::Ok);
        }
        assert_eq!(breaker.state(), State::Closed);
        window *= 2;
    }
    assert_eq!(breaker.permit(100_000).unwrap().granted(), 100_000);
}

#[test]
fn a_failure_while_ramping_up_narrows_the_window_again() {
    let breaker = cooled_down();
    for wanted in [3, 6] {
        let mut permit = breaker.permit(wanted).unwrap();
        (0..wanted).for_each(|_| permit.item(Outcome::Ok));
    }
    breaker.permit(1).unwrap().transport_failure();
    assert_eq!(breaker.permit(50).unwrap().granted(), 6);
}

#[test]
fn an_answer_from_before_the_opening_is_old_news() {
    let breaker = Breaker::new("callee", QUICK);
    let mut old = breaker.permit(10).unwrap();
    for _ in 0..3 {
        breaker.permit(1).unwrap().transport_failure();
    }
    std::thread::sleep(QUICK.cool_down_min + Duration::from_millis(5));
    let probes = breaker.permit(3).unwrap();
    old.item(Outcome::Ok);
    assert_eq!(breaker.state(), State::HalfOpen, "it does not close");
    old.item(Outcome::Failed);
    assert_eq!(breaker.state(), State::HalfOpen, "and does not open");
    drop(old);
    assert!(breaker.permit(1).is_err(), "and frees no probe that is not its own");
    drop(probes);
}
