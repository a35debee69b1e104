//! The gRPC doors: parse, hand to the command, answer. The only place that knows a `Status`.
//!
//! [`catalog`] serves prices, quotes and documents; the steps of sagas are served here. Read next: `wire`.

mod catalog;

use chassis::{batcher::Batcher, telemetry::step_span};
use proto::{
    order::v1::{
        CancelReply, CancelRequest, CompleteReply, CompleteRequest, OpenReply, OpenRequest,
        order_steps_server::OrderSteps,
    },
    step::{self, Replies},
};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

pub(crate) use catalog::{Prices, price};

use crate::{
    commands::{cancel::Cancel, complete::Complete, open::Open},
    wire,
};

/// Items of a slice at most.
const MAX_SLICE: usize = 512;

/// Serves `amends.order.v1.OrderSteps`.
#[derive(Clone)]
pub(crate) struct Steps {
    pub(crate) open: Batcher<Open>,
    pub(crate) complete: Batcher<Complete>,
    pub(crate) cancel: Batcher<Cancel>,
}

#[tonic::async_trait]
impl OrderSteps for Steps {
    type OpenStream = Replies<OpenReply>;
    type CompleteStream = Replies<CompleteReply>;
    type CancelStream = Replies<CancelReply>;

    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<Self::OpenStream>, Status> {
        step::serve(request.into_inner().items, MAX_SLICE, |item, header| {
            let span =
                step_span("amends.order.v1.OrderSteps/Open", &header.key, header.attempt, &header.trace);
            let item = wire::open_item(item, &header)?;
            Ok(self.open.submit(item, header.remaining).instrument(span))
        })
    }

    async fn complete(
        &self,
        request: Request<CompleteRequest>,
    ) -> Result<Response<Self::CompleteStream>, Status> {
        step::serve(request.into_inner().items, MAX_SLICE, |item, header| {
            let span =
                step_span("amends.order.v1.OrderSteps/Complete", &header.key, header.attempt, &header.trace);
            let item = wire::complete_item(item, &header)?;
            Ok(self.complete.submit(item, header.remaining).instrument(span))
        })
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<Self::CancelStream>, Status> {
        step::serve(request.into_inner().items, MAX_SLICE, |item, header| {
            let span =
                step_span("amends.order.v1.OrderSteps/Cancel", &header.key, header.attempt, &header.trace);
            let remaining = header.remaining;
            let item = wire::cancel_item(item, header, None)?;
            Ok(self.cancel.submit(item, remaining).instrument(span))
        })
    }
}
