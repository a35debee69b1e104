//! The generated clients and handlers, one arm per step: a slice goes out, its stream of answers comes back.

use std::{panic::AssertUnwindSafe, time::Duration};

use chassis::grpc::{MAX_SLICE_MESSAGE, TRACED_BY_ITEM};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use proto::{
    inventory::v1 as inventory,
    ledger::v1 as ledger,
    local,
    order::v1 as order,
    payment::v1 as payment,
    risk::v1 as risk,
    step::{Answer, Reply},
};
use tonic::{Request, Status, metadata::MetadataValue};

use super::{
    Call, Peer, lane,
    outcome::{CallOutcome, classify},
};

/// A participant's client.
#[derive(Clone)]
pub(super) enum Client {
    Order(Peer<local::OrderSteps>),
    Inventory(Peer<local::InventorySteps>),
    Risk(Peer<local::RiskSteps>),
    Payment(Peer<local::PaymentSteps>),
    Ledger(Peer<local::LedgerSteps>),
}

/// Picks the items of one kind out of a slice; a lane never mixes them.
macro_rules! items {
    ($calls:expr, $kind:ident) => {
        $calls
            .into_iter()
            .filter_map(|call| match call {
                Call::$kind(item) => Some(item),
                _ => None,
            })
            .collect()
    };
}

/// Sends a slice with one client method, or hands it over to the handler of that method, and reads its stream.
macro_rules! send {
    ($client:ident, $peer:expr, $method:ident, $package:ident::$request:ident, $kind:ident, $calls:expr, $time:expr, $each:expr) => {{
        let mut request = Request::new($package::$request { items: items!($calls, $kind) });
        match $peer {
            Peer::Remote(callee) => {
                let mut client = $client::new(callee)
                    .max_decoding_message_size(MAX_SLICE_MESSAGE)
                    .max_encoding_message_size(MAX_SLICE_MESSAGE);
                request.set_timeout($time);
                request.metadata_mut().insert(TRACED_BY_ITEM, MetadataValue::from_static("1"));
                read(client.$method(request).await?.into_inner(), $each).await
            }
            Peer::Local(steps) => {
                apart(async { read(steps.$method(request).await?.into_inner(), $each).await }).await
            }
        }
    }};
}

impl Client {
    /// Sends one slice of one method and tells each answer as it comes.
    pub(super) async fn exchange(
        &self,
        calls: Vec<Call>,
        time: Duration,
        each: impl FnMut(String, String, CallOutcome) + Send,
    ) -> Result<(), Status> {
        use inventory::inventory_steps_client::InventoryStepsClient;
        use ledger::ledger_steps_client::LedgerStepsClient;
        use order::order_steps_client::OrderStepsClient;
        use payment::payment_steps_client::PaymentStepsClient;
        use risk::risk_steps_client::RiskStepsClient;
        let Some(first) = calls.first() else { return Ok(()) };
        match (self.clone(), lane(first)) {
            (Self::Order(c), "open") => {
                send!(OrderStepsClient, c, open, order::OpenRequest, Open, calls, time, each)
            }
            (Self::Order(c), _) => {
                send!(OrderStepsClient, c, complete, order::CompleteRequest, Complete, calls, time, each)
            }
            (Self::Inventory(c), "reserve") => {
                send!(InventoryStepsClient, c, reserve, inventory::ReserveRequest, Reserve, calls, time, each)
            }
            (Self::Inventory(c), _) => {
                send!(InventoryStepsClient, c, commit, inventory::CommitRequest, Commit, calls, time, each)
            }
            (Self::Risk(c), _) => {
                send!(RiskStepsClient, c, screen, risk::ScreenRequest, Screen, calls, time, each)
            }
            (Self::Payment(c), _) => {
                send!(PaymentStepsClient, c, charge, payment::ChargeRequest, Charge, calls, time, each)
            }
            (Self::Ledger(c), _) => {
                send!(LedgerStepsClient, c, post, ledger::PostRequest, Post, calls, time, each)
            }
        }
    }
}

/// An exchange with handlers of this process ends as if a wire lay between: a panic is an error of its own, and an error does not
/// say where it came from (a connection that a handler could not make is no call that was not sent).
async fn apart(exchange: impl Future<Output = Result<(), Status>>) -> Result<(), Status> {
    match AssertUnwindSafe(exchange).catch_unwind().await {
        Ok(done) => done.map_err(|status| Status::new(status.code(), status.message())),
        Err(_) => Err(Status::internal("the participant panicked")),
    }
}

async fn read<R, D>(
    mut stream: impl Stream<Item = Result<R, Status>> + Unpin,
    mut each: impl FnMut(String, String, CallOutcome) + Send,
) -> Result<(), Status>
where
    R: Reply<Says = Answer<D>>,
    D: prost::Message,
{
    while let Some(reply) = stream.next().await {
        let (saga_id, step, says) = reply?.open();
        each(saga_id, step, classify(says));
    }
    Ok(())
}
