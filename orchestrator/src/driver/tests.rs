//! What the loop does about shards that come and go.

use chassis::{grpc, stop::Stop};
use tonic::service::Routes;

use super::*;
use crate::participants::{Callees, DispatchOptions};

fn driver() -> Driver {
    let nobody = || grpc::local(Routes::default());
    let callees =
        Callees { order: nobody(), inventory: nobody(), risk: nobody(), payment: nobody(), ledger: nobody() };
    let options =
        DispatchOptions { slice: 1, breaker_failures: 5, breaker_cool_down: Duration::from_secs(1) };
    let (returned_in, returned) = mpsc::unbounded_channel();
    let participants = Participants::start(&callees, options, &returned_in, &Stop::new());
    let channels = Channels {
        inputs: mpsc::unbounded_channel().1,
        returned,
        landed: mpsc::unbounded_channel().1,
        writer: mpsc::unbounded_channel().0,
        loaded: mpsc::unbounded_channel().1,
        wanted: mpsc::unbounded_channel().0,
        discarded: mpsc::unbounded_channel().0,
    };
    let registry = Registry::new(Vec::new()).unwrap();
    Driver::new(registry, participants, Hub::default(), Arc::default(), Arc::default(), channels)
}

#[tokio::test]
async fn a_shard_that_was_acquired_again_is_driven_however_late_its_drain_ends() {
    let mut driver = driver();
    driver.take(Input::Gained(vec![(3, 1, false), (4, 1, false)]));
    let (told, drained) = oneshot::channel();
    driver.take(Input::Drain(vec![3, 4], told));
    assert_eq!((driver.drives(3), driver.drives(4)), (None, None));
    // A commit hung for longer than the keeper waits: it let go all the same, and one of the two came back.
    driver.take(Input::Lost(vec![3, 4]));
    driver.take(Input::Gained(vec![(3, 3, false)]));
    driver.finish_draining();
    drained.await.unwrap();
    assert_eq!((driver.drives(3), driver.drives(4)), (Some(3), None));
}
