//! A hold that outlives its time raises an alarm, and stays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use inventory_svc::Settings;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::house::*;

const GAUGE: &str = "amends_inventory_overdue_holds";

/// Remembers one gauge. The other tests of this binary look for overdue holds too seldom to touch it.
struct OneGauge(Arc<AtomicU64>);

impl Recorder for OneGauge {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        if key.name() == GAUGE { Gauge::from_arc(Arc::clone(&self.0)) } else { Gauge::noop() }
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

async fn becomes(gauge: &AtomicU64, expected: f64) {
    for _ in 0..500 {
        if f64::from_bits(gauge.load(Ordering::Relaxed)).total_cmp(&expected).is_eq() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the gauge is {}, not {expected}", f64::from_bits(gauge.load(Ordering::Relaxed)));
}

#[tokio::test]
async fn an_overdue_hold_raises_an_alarm_and_is_never_dropped() {
    let gauge = Arc::new(AtomicU64::new(f64::NAN.to_bits()));
    metrics::set_global_recorder(OneGauge(Arc::clone(&gauge))).unwrap();
    let settings = Settings { inventory_hold_look: Duration::from_millis(20), ..Settings::default() };
    let house = House::with(settings).await;
    house.restock("A", 10).await;
    let (overdue, in_time) = (new_saga(), new_saga());
    let mut item = reserve_item(overdue, &[("A", 3)]);
    item.hold_until = Some(proto::time::stamp(chassis::clock::now() - Duration::from_secs(1)));
    house.reserve(vec![item, reserve_item(in_time, &[("A", 1)])]).await;
    becomes(&gauge, 1.0).await;
    assert_eq!(house.stock("A").await, (6, 4, 0));
    house.commit(vec![commit_item(overdue)]).await;
    becomes(&gauge, 0.0).await;
}
