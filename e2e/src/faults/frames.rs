//! gRPC messages in HTTP bodies, and what every step's request and reply has in common on the wire.
//!
//! Every request is `repeated items = 1`, every item begins with its header, and every reply says saga and step before
//! its outcome (`proto/src/step.rs` holds the same by traits). So a step of any participant is taken apart here without
//! being named.

use std::convert::Infallible;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use proto::step::{Fenced, Pending, Refused, StepHeader, TurnedAway};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{Status, body::Body};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawRequest {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) items: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawItem {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<StepHeader>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawReply {
    #[prost(string, tag = "1")]
    pub(super) saga_id: String,
    #[prost(string, tag = "2")]
    pub(super) step: String,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) done: Option<Vec<u8>>,
    #[prost(message, optional, tag = "4")]
    pub(super) refused: Option<Refused>,
    #[prost(message, optional, tag = "5")]
    pub(super) pending: Option<Pending>,
    #[prost(message, optional, tag = "6")]
    pub(super) fenced: Option<Fenced>,
    #[prost(message, optional, tag = "7")]
    pub(super) turned_away: Option<TurnedAway>,
}

impl RawReply {
    /// Without an outcome.
    pub(super) fn of(saga: &str, step: &str) -> Self {
        Self { saga_id: saga.to_owned(), step: step.to_owned(), ..Self::default() }
    }

    /// In a word, for people.
    pub(super) fn says(&self) -> String {
        if self.done.is_some() {
            "DONE".into()
        } else if let Some(refused) = &self.refused {
            format!("REFUSED {}", refused.reason)
        } else if self.pending.is_some() {
            "PENDING".into()
        } else if self.fenced.is_some() {
            "FENCED".into()
        } else if let Some(away) = &self.turned_away {
            format!("TURNED_AWAY {}", away.message)
        } else {
            "nothing".into()
        }
    }
}

/// A message as it stands in a body.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

/// The only message of a request's body.
pub(super) fn request(body: &Bytes) -> Option<RawRequest> {
    RawRequest::decode(body.get(5..)?).ok()
}

/// A body that is read message by message.
pub(super) struct Reader {
    body: Body,
    read: BytesMut,
    trailers: HeaderMap,
}

impl Reader {
    pub(super) fn new(response: http::Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        // An answer without a body says its status there.
        let trailers =
            if parts.headers.contains_key("grpc-status") { parts.headers } else { HeaderMap::new() };
        Self { body, read: BytesMut::new(), trailers }
    }

    /// The next message; none at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(mut head) = self.read.get(1..5) {
                let length = head.get_u32() as usize;
                if self.read.len() >= length + 5 {
                    self.read.advance(5);
                    return Some(self.read.split_to(length).freeze());
                }
            }
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => self.read.extend_from_slice(&data),
                    Err(frame) => self.trailers = frame.into_trailers().unwrap_or_default(),
                },
                Err(error) => {
                    Status::unavailable(format!("the participant's stream broke: {error}"))
                        .add_header(&mut self.trailers)
                        .unwrap();
                    return None;
                }
            }
        }
    }

    /// How it ended.
    pub(super) fn trailers(self) -> HeaderMap {
        self.trailers
    }
}

type Frame = http_body::Frame<Bytes>;

/// The way out to whoever called.
pub(super) struct Outlet(mpsc::UnboundedSender<Frame>);

impl Outlet {
    /// And the response that says it.
    pub(super) fn open() -> (Self, http::Response<Body>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let frames = UnboundedReceiverStream::new(receiver).map(Ok::<_, Infallible>);
        let body = Body::new(StreamBody::new(frames));
        let response = http::Response::builder().header("content-type", "application/grpc").body(body);
        (Self(sender), response.unwrap())
    }

    /// Whether anybody may still have heard it.
    pub(super) fn say(&self, message: &[u8]) -> bool {
        self.0.send(Frame::data(frame(message))).is_ok()
    }

    pub(super) fn end(self, trailers: HeaderMap) {
        let _ = self.0.send(Frame::trailers(trailers));
    }

    pub(super) fn fail(self, status: &Status) {
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).unwrap();
        self.end(trailers);
    }

    /// Whoever called has hung up.
    pub(super) async fn hung_up(&self) {
        self.0.closed().await;
    }
}
