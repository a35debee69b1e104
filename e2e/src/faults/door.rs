//! At a participant's door: a slice is taken apart, so that only the item that is meant meets its fault.
//!
//! The others go through as one exchange, and their answers come as the participant gives them. A stream ends one way
//! only: if one item is to hang and another to fail with a status, the second has its turn in a later exchange, and is
//! turned away now as if the participant had too much to do, which spends nothing and says nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chassis::grpc::Callee;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use proto::step::{Pending, Refused, TurnedAway, turned_away};
use tonic::{Status, body::Body};
use tower::{ServiceExt as _, service_fn, util::BoxCloneSyncService};
use types::SagaId;

use super::{
    fault::{Direction, Fault, Garbage},
    frames::{Outlet, RawItem, RawReply, RawRequest, Reader, frame, request},
    injector::{Injector, Spot},
};

/// How long it takes until a participant's server says that the time is up.
const TIME_IS_UP: Duration = Duration::from_millis(100);

/// How long a saga waits until it asks again whether it is let go.
const HOLD_MS: i64 = 400;

/// A participant whose step calls meet what is planned for them.
pub(crate) fn guard(callee: Callee, participant: &'static str, injector: Injector) -> Callee {
    BoxCloneSyncService::new(service_fn(move |call: http::Request<Body>| {
        let door = Door { callee: callee.clone(), participant, injector: injector.clone() };
        async move {
            if !call.uri().path().contains("Steps/") {
                return door.callee.oneshot(call).await;
            }
            let (parts, body) = call.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let Some(RawRequest { items }) = request(&body) else {
                return door.send(&parts, Full::new(body)).await;
            };
            let items: Vec<_> = items.into_iter().map(Asked::read).collect();
            if door.injector.is_down(participant) {
                for item in &items {
                    door.injector.comes(&item.spot).await;
                }
                return Ok(Status::unavailable("nobody is let in").into_http());
            }
            let (outlet, response) = Outlet::open();
            // Runs to its end even if the caller hangs up, as a participant does.
            tokio::spawn(door.serve(parts, items, outlet));
            Ok(response)
        }
    }))
}

/// An item of a slice, and what is planned for it.
#[derive(Clone)]
struct Asked {
    spot: Spot,
    item: bytes::Bytes,
    fault: Option<Fault>,
    done: Arc<AtomicBool>,
}

impl Asked {
    fn read(item: bytes::Bytes) -> Self {
        let header = RawItem::decode(item.clone()).ok().and_then(|item| item.header).unwrap_or_default();
        let spot = Spot { saga: header.saga_id, step: header.step, direction: Direction::Forward };
        Self { spot, item, fault: None, done: Arc::default() }
    }

    /// Whether the participant gets it now.
    fn goes_through(&self) -> bool {
        !matches!(
            self.fault,
            Some(
                Fault::Refuse
                    | Fault::Error
                    | Fault::Unable
                    | Fault::TimeoutBefore
                    | Fault::Late
                    | Fault::AfterEnd
            )
        )
    }
}

/// How a stream ends for those who got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Failed,
    Broken,
    Undecodable,
    TimeIsUp,
    Silent,
}

const fn ending(fault: Fault) -> Option<Ending> {
    match fault {
        Fault::Error => Some(Ending::Failed),
        Fault::Broken => Some(Ending::Broken),
        Fault::Garbage(Garbage::Undecodable) => Some(Ending::Undecodable),
        Fault::TimeoutBefore | Fault::TimeoutAfter | Fault::Late | Fault::AfterEnd => Some(Ending::TimeIsUp),
        Fault::Silence => Some(Ending::Silent),
        Fault::Refuse
        | Fault::Unable
        | Fault::Garbage(_)
        | Fault::Duplicate
        | Fault::Again
        | Fault::BreakerOpen
        | Fault::Hold => None,
    }
}

struct Door {
    callee: Callee,
    participant: &'static str,
    injector: Injector,
}

impl Door {
    async fn send(
        &self,
        parts: &http::request::Parts,
        body: Full<bytes::Bytes>,
    ) -> Result<http::Response<Body>, chassis::grpc::CallError> {
        let mut call = http::Request::new(Body::new(body));
        *call.method_mut() = parts.method.clone();
        *call.uri_mut() = parts.uri.clone();
        *call.version_mut() = parts.version;
        *call.headers_mut() = parts.headers.clone();
        call.headers_mut().remove(http::header::CONTENT_LENGTH);
        self.callee.clone().oneshot(call).await
    }

    fn again(&self) -> Self {
        Self { callee: self.callee.clone(), participant: self.participant, injector: self.injector.clone() }
    }

    fn did(&self, asked: &Asked) {
        asked.done.store(true, Ordering::Relaxed);
        self.injector.done(&asked.spot);
    }

    async fn serve(self, parts: http::request::Parts, mut items: Vec<Asked>, outlet: Outlet) {
        for asked in &mut items {
            self.injector.comes(&asked.spot).await;
            asked.fault = self.injector.take(&asked.spot, |_| true);
        }
        let ends: Vec<_> = items.iter().filter_map(|asked| asked.fault.and_then(ending)).collect();
        // Silence takes longest; what fails is soon over.
        let end = ends.iter().copied().find(|end| *end != Ending::Silent).or_else(|| ends.first().copied());
        let (items, others): (Vec<_>, Vec<_>) = items.into_iter().partition(|asked| {
            let wants = asked.fault.and_then(ending);
            wants.is_none() || wants == end
        });
        for asked in &others {
            let code = turned_away::Code::Overloaded.into();
            let away = TurnedAway { code, retry_after_ms: 20, message: "its fault comes later".into() };
            self.reply(asked, &outlet, |reply| reply.turned_away = Some(away));
            self.injector.give_back(&asked.spot);
        }
        for asked in &items {
            self.speak_for(&parts, asked, &outlet);
        }
        let trailers = self.go_through(&parts, &items, &outlet).await;
        let is_over = |asked: &&Asked| asked.fault.is_some_and(|fault| ending(fault).is_none());
        for asked in items.iter().filter(is_over).filter(|asked| !asked.done.load(Ordering::Relaxed)) {
            // Its participant gave no answer that anything could be done to.
            self.injector.give_back(&asked.spot);
        }
        let ended: Vec<_> =
            items.into_iter().filter(|asked| asked.fault.and_then(ending).is_some()).collect();
        self.end(end, trailers, &parts, ended, outlet).await;
    }

    fn reply(&self, asked: &Asked, outlet: &Outlet, outcome: impl FnOnce(&mut RawReply)) -> bool {
        let mut reply = RawReply::of(&asked.spot.saga, &asked.spot.step);
        outcome(&mut reply);
        outlet.say(&reply.encode_to_vec())
    }

    /// What is said at the door, without asking the participant.
    fn speak_for(&self, parts: &http::request::Parts, asked: &Asked, outlet: &Outlet) {
        let said = match asked.fault {
            Some(Fault::Refuse) => self.reply(asked, outlet, |reply| {
                let metadata = [("by".to_owned(), "the door".to_owned())].into();
                reply.refused = Some(Refused { reason: "REFUSED_AT_THE_DOOR".into(), metadata });
            }),
            Some(Fault::Unable) => self.reply(asked, outlet, |reply| {
                reply.turned_away = Some(TurnedAway::failed("this one cannot be processed"));
            }),
            _ => return,
        };
        if !said {
            return;
        }
        if asked.fault == Some(Fault::Refuse) {
            // A person may still see to it that it is done.
            let (saga, asked) = (asked.spot.saga.clone(), asked.clone());
            self.injector.keep(&saga, Box::pin(self.deliver(parts.clone(), asked)));
        }
        self.did(asked);
    }

    /// Sends the participant what is for it, and passes its answers on, each as is planned.
    async fn go_through(&self, parts: &http::request::Parts, items: &[Asked], outlet: &Outlet) -> HeaderMap {
        let through: Vec<_> = items.iter().filter(|asked| asked.goes_through()).collect();
        if through.is_empty() {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            return trailers;
        }
        let request = RawRequest { items: through.iter().map(|asked| asked.item.clone()).collect() };
        let response = match self.send(parts, Full::new(frame(&request.encode_to_vec()))).await {
            Ok(response) => response,
            Err(error) => {
                let mut trailers = HeaderMap::new();
                Status::from_error(Box::new(error)).add_header(&mut trailers).unwrap();
                return trailers;
            }
        };
        let mut reader = Reader::new(response);
        while let Some(message) = reader.next().await {
            let reply = RawReply::decode(message.clone()).unwrap_or_default();
            match through.iter().find(|asked| asked.spot.saga == reply.saga_id) {
                Some(asked) => self.pass_on(asked, reply, &message, outlet),
                None => {
                    outlet.say(&message);
                }
            }
        }
        reader.trailers()
    }

    fn pass_on(&self, asked: &Asked, mut reply: RawReply, message: &[u8], outlet: &Outlet) {
        let said = match asked.fault {
            // The stream's end says the rest.
            Some(
                Fault::TimeoutAfter | Fault::Silence | Fault::Broken | Fault::Garbage(Garbage::Undecodable),
            ) => return,
            Some(Fault::Garbage(kind)) => {
                spoil(&mut reply, kind);
                outlet.say(&reply.encode_to_vec())
            }
            Some(Fault::Duplicate) => outlet.say(message) && outlet.say(message),
            Some(Fault::Hold) => {
                let until = chassis::clock::now().timestamp_millis() + HOLD_MS;
                let stamp = prost_types::Timestamp {
                    seconds: until / 1000,
                    nanos: i32::try_from(until % 1000).unwrap() * 1_000_000,
                };
                // Time under review is not counted: whoever is held has its deadline whole.
                self.reply(asked, outlet, |reply| {
                    reply.pending = Some(Pending { until: Some(stamp), action: "REVIEW".into() });
                })
            }
            _ => {
                outlet.say(message);
                return;
            }
        };
        if said {
            self.did(asked);
        }
    }

    /// Ends the stream as is planned for those whose end it is.
    async fn end(
        self,
        end: Option<Ending>,
        trailers: HeaderMap,
        parts: &http::request::Parts,
        items: Vec<Asked>,
        outlet: Outlet,
    ) {
        match end {
            None => return outlet.end(trailers),
            Some(Ending::Failed) => outlet.fail(&Status::internal("it failed")),
            Some(Ending::Broken) => outlet.fail(&Status::unavailable("the connection broke")),
            Some(Ending::Undecodable) => {
                // A string that is no UTF-8, where the saga stands.
                outlet.say(&[0x0a, 0x02, 0xff, 0xff]);
                outlet.end(trailers);
            }
            Some(Ending::TimeIsUp) => {
                tokio::time::sleep(TIME_IS_UP).await;
                // As tonic's server says it.
                outlet.fail(&Status::cancelled("Timeout expired"));
            }
            Some(Ending::Silent) => outlet.hung_up().await,
        }
        for asked in items {
            self.did(&asked);
            match asked.fault {
                Some(Fault::Late) => drop(tokio::spawn(self.deliver(parts.clone(), asked))),
                Some(Fault::AfterEnd) => {
                    let saga = asked.spot.saga.clone();
                    self.injector.keep(&saga, Box::pin(self.deliver(parts.clone(), asked)));
                }
                _ => {}
            }
        }
    }

    /// Gives the participant a call whose caller is gone.
    fn deliver(
        &self,
        parts: http::request::Parts,
        asked: Asked,
    ) -> impl Future<Output = ()> + Send + 'static {
        let door = self.again();
        async move {
            let request = RawRequest { items: vec![asked.item] };
            let says = match door.send(&parts, Full::new(frame(&request.encode_to_vec()))).await {
                Ok(response) => {
                    let mut reader = Reader::new(response);
                    let mut says = "no answer".to_owned();
                    while let Some(message) = reader.next().await {
                        says = RawReply::decode(message).unwrap_or_default().says();
                    }
                    says
                }
                Err(error) => error.to_string(),
            };
            door.injector.late(&asked.spot, says);
        }
    }
}

fn spoil(reply: &mut RawReply, kind: Garbage) {
    match kind {
        Garbage::Saga => reply.saga_id = SagaId::from_uuid(chassis::clock::new_uuid()).to_string(),
        Garbage::Step => reply.step = "elsewhere".into(),
        // Field 1, a text: the id of something, but of nothing that this step gives.
        Garbage::Done => reply.done = Some(b"\x0a\x07garbage".to_vec()),
        Garbage::NoOutcome | Garbage::NoDirection | Garbage::Undecodable => {
            *reply = RawReply::of(&reply.saga_id, &reply.step);
        }
    }
}
