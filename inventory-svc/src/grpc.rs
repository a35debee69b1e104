//! The gRPC doors: parse, hand to the command, answer. The only place that knows a `Status`.
//!
//! [`people`] serves stock to people; the steps of sagas are served here. Read next: `wire`.

mod people;

use chassis::{batcher::Batcher, telemetry::step_span};
use proto::{
    inventory::v1::{
        CommitReply, CommitRequest, ReleaseReply, ReleaseRequest, ReserveReply, ReserveRequest,
        inventory_steps_server::InventorySteps,
    },
    step::{self, Replies},
};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

pub(crate) use people::{People, restock_item};

use crate::{
    commands::{commit::Commit, release::Release, reserve::Reserve},
    wire,
};

/// Items of a slice at most.
const MAX_SLICE: usize = 512;

/// Serves `amends.inventory.v1.InventorySteps`.
#[derive(Clone)]
pub(crate) struct Steps {
    pub(crate) reserve: Batcher<Reserve>,
    pub(crate) commit: Batcher<Commit>,
    pub(crate) release: Batcher<Release>,
}

#[tonic::async_trait]
impl InventorySteps for Steps {
    type ReserveStream = Replies<ReserveReply>;
    type CommitStream = Replies<CommitReply>;
    type ReleaseStream = Replies<ReleaseReply>;

    async fn reserve(
        &self,
        request: Request<ReserveRequest>,
    ) -> Result<Response<Self::ReserveStream>, Status> {
        step::serve(request.into_inner().items, MAX_SLICE, |item, header| {
            let span = step_span(
                "amends.inventory.v1.InventorySteps/Reserve",
                &header.key,
                header.attempt,
                &header.trace,
            );
            let item = wire::reserve_item(item, &header)?;
            Ok(self.reserve.submit(item, header.remaining).instrument(span))
        })
    }

    async fn commit(&self, request: Request<CommitRequest>) -> Result<Response<Self::CommitStream>, Status> {
        step::serve(request.into_inner().items, MAX_SLICE, |item, header| {
            let span = step_span(
                "amends.inventory.v1.InventorySteps/Commit",
                &header.key,
                header.attempt,
                &header.trace,
            );
            let item = wire::commit_item(&item, &header)?;
            Ok(self.commit.submit(item, header.remaining).instrument(span))
        })
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<Self::ReleaseStream>, Status> {
        step::serve(request.into_inner().items, MAX_SLICE, |item, header| {
            let span = step_span(
                "amends.inventory.v1.InventorySteps/Release",
                &header.key,
                header.attempt,
                &header.trace,
            );
            let remaining = header.remaining;
            let item = wire::release_item(&item, header, None)?;
            Ok(self.release.submit(item, remaining).instrument(span))
        })
    }
}
