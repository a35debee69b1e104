//! What comes of a slice whose participant is in this process and does not do what it should.

use std::pin::Pin;

use futures_util::{future::BoxFuture, stream};
use proto::{
    local,
    order::v1::{
        CancelReply, CancelRequest, CompleteReply, CompleteRequest, OpenDone, OpenItem, OpenReply,
        OpenRequest, order_steps_server::OrderSteps,
    },
    step::{Answer, Replies, Reply as _},
};
use tonic::{ConnectError, Request, Response, service::Routes};
use uuid::Uuid;

use super::*;

type Opened = Result<Response<Replies<OpenReply>>, Status>;

/// An order-svc that answers as a test says.
struct Odd(Box<dyn Fn(OpenRequest) -> BoxFuture<'static, Opened> + Send + Sync>);

#[tonic::async_trait]
impl OrderSteps for Odd {
    type OpenStream = Replies<OpenReply>;
    type CompleteStream = Replies<CompleteReply>;
    type CancelStream = Replies<CancelReply>;

    async fn open(&self, request: Request<OpenRequest>) -> Opened {
        (self.0)(request.into_inner()).await
    }

    async fn complete(&self, _: Request<CompleteRequest>) -> Result<Response<Self::CompleteStream>, Status> {
        Err(Status::unimplemented("complete"))
    }

    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<Self::CancelStream>, Status> {
        Err(Status::unimplemented("cancel"))
    }
}

/// What came of three calls, in the order of their sagas.
async fn outcomes(
    odd: impl Fn(OpenRequest) -> BoxFuture<'static, Opened> + Send + Sync + 'static,
) -> Vec<String> {
    let nobody = || chassis::grpc::local(Routes::default());
    let order: local::OrderSteps = Arc::new(Odd(Box::new(odd)));
    let callees = Callees {
        catalog: nobody().into(),
        order: Peer::Local(order),
        inventory: nobody().into(),
        risk: nobody().into(),
        payment: nobody().into(),
        ledger: nobody().into(),
    };
    let options =
        DispatchOptions { slice: 8, breaker_failures: 5, breaker_cool_down: Duration::from_secs(1) };
    let (returned, mut come) = mpsc::unbounded_channel();
    let participants = Participants::start(&callees, options, &returned, &Stop::new());
    for n in 0..3 {
        let saga = SagaId::from_uuid(Uuid::from_u128(n));
        let header =
            StepHeader { saga_id: saga.to_string(), step: "open".into(), attempt: 1, ..Default::default() };
        participants.dispatch(Dispatch {
            saga,
            step: 0,
            call: Call::Open(OpenItem { header: Some(header), ..Default::default() }),
            time: Duration::from_millis(50),
            is_retry: false,
            is_fresh: true,
            span: Span::none(),
            queued: Instant::now(),
        });
    }
    let mut all = Vec::new();
    for _ in 0..3 {
        let come = tokio::time::timeout(Duration::from_secs(10), come.recv()).await;
        let Returned { saga, outcome, .. } = come.expect("every call has an outcome").unwrap();
        all.push((saga, outcome.as_str().to_owned()));
    }
    all.sort();
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

fn done(item: &OpenItem) -> OpenReply {
    let header = item.header.clone().unwrap();
    OpenReply::build(header.saga_id, header.step, Answer::Done(OpenDone::default()))
}

/// Answers those before the first, and then does what it is told.
fn first_then(request: &OpenRequest, then: Option<Status>) -> Opened {
    let first = request.items.first().map(|item| Ok(done(item)));
    Ok(Response::new(Box::pin(stream::iter(first.into_iter().chain(then.map(Err))))))
}

#[tokio::test]
async fn who_is_answered_is_done_and_the_others_are_in_doubt() {
    let all = outcomes(|request| {
        let replies: Vec<_> = request.items.iter().rev().map(|item| Ok(done(item))).collect();
        let replies: Pin<Box<dyn futures_util::Stream<Item = _> + Send>> = Box::pin(stream::iter(replies));
        Box::pin(async move { Ok(Response::new(replies)) })
    });
    assert_eq!(all.await, ["done", "done", "done"]);
    let broken = outcomes(|request| {
        Box::pin(async move { first_then(&request, Some(Status::unavailable("it stops"))) })
    });
    assert_eq!(broken.await, ["done", "in_doubt", "in_doubt"]);
    let short = outcomes(|request| Box::pin(async move { first_then(&request, None) }));
    assert_eq!(short.await, ["done", "in_doubt", "in_doubt"]);
}

#[tokio::test]
async fn a_handler_that_panics_or_never_answers_leaves_doubt_and_nobody_waiting() {
    let panics = outcomes(|request| Box::pin(async move { panic!("{} items", request.items.len()) }));
    assert_eq!(panics.await, ["in_doubt"; 3]);
    let later = outcomes(|request| {
        let first = request.items.first().map(|item| Ok(done(item)));
        let mut first = first.into_iter();
        let replies = stream::poll_fn(move |_| match first.next() {
            Some(reply) => std::task::Poll::Ready(Some(reply)),
            None => panic!("after the first"),
        });
        Box::pin(async move { Ok(Response::new(Box::pin(replies) as Replies<OpenReply>)) })
    });
    assert_eq!(later.await, ["done", "in_doubt", "in_doubt"]);
    let hangs = outcomes(|_| Box::pin(std::future::pending()));
    assert_eq!(hangs.await, ["in_doubt"; 3]);
}

#[tokio::test]
async fn a_connection_that_a_handler_could_not_make_is_no_call_that_was_not_sent() {
    let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let unreached = move || Status::from_error(Box::new(ConnectError(Box::new(refused()))));
    assert_eq!(classify_status(&unreached()).as_str(), "not_sent", "of a participant in another process");
    let own = outcomes(move |_| Box::pin(std::future::ready(Err(unreached()))));
    assert_eq!(own.await, ["in_doubt"; 3]);
}
