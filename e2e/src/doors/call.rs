//! A call, byte by byte.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use chassis::grpc::{CallError, Callee};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use proto::step::{TurnedAway, turned_away};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use super::Method;

/// What is sent.
#[derive(Debug, Clone)]
pub struct Call {
    pub path: String,
    pub headers: HeaderMap,
    /// With its frames.
    pub body: Bytes,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: Status,
    pub messages: Vec<Bytes>,
}

/// A message in its frame.
#[must_use]
pub fn frame(message: &[u8]) -> Bytes {
    framed(0, u32::try_from(message.len()).unwrap(), message)
}

/// A frame that may lie.
#[must_use]
pub fn framed(flag: u8, length: u32, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.put_slice(message);
    frame.freeze()
}

impl Call {
    /// This message to this method, as a client would send it.
    #[must_use]
    pub fn of(method: &Method, message: &[u8]) -> Self {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Self { path: method.path(), headers: headers.into_iter().collect(), body: frame(message) }
    }

    fn request(self) -> http::Request<Body> {
        let mut request = http::Request::new(Body::new(Full::new(self.body)));
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = self.path.parse().unwrap();
        *request.headers_mut() = self.headers;
        request
    }

    /// Sends it and reads the answer to its end.
    pub async fn send(self, callee: Callee) -> Answer {
        let path = self.path.clone();
        let answered = tokio::time::timeout(Duration::from_secs(60), self.exchange(callee));
        answered.await.unwrap_or_else(|_| panic!("{path} never answers"))
    }

    /// As [`Self::send`], without a limit.
    pub async fn exchange(self, callee: Callee) -> Answer {
        let response = match callee.oneshot(self.request()).await {
            Ok(response) => response,
            Err(error) => return Answer { status: broken(&error), messages: Vec::new() },
        };
        let (head, body) = response.into_parts();
        if head.status != http::StatusCode::OK {
            let status = Status::new(Code::Unavailable, format!("HTTP {}", head.status));
            return Answer { status, messages: Vec::new() };
        }
        let body = match body.collect().await {
            Ok(body) => body,
            Err(status) => return Answer { status, messages: Vec::new() },
        };
        let trailers = body.trailers().cloned().unwrap_or_default();
        let status = Status::from_header_map(&head.headers)
            .or_else(|| Status::from_header_map(&trailers))
            .unwrap_or_else(|| Status::unknown("no grpc-status"));
        Answer { status, messages: unframe(body.to_bytes()) }
    }
}

fn broken(error: &CallError) -> Status {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Status::unavailable(format!("no response: {cause}"))
}

fn unframe(mut bytes: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while bytes.len() >= 5 {
        let head = bytes.split_to(5);
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        messages.push(bytes.split_to(usize::try_from(length).unwrap()));
    }
    messages
}

impl Answer {
    #[must_use]
    pub fn code(&self) -> Code {
        self.status.code()
    }

    /// Which fields are named as bad.
    #[must_use]
    pub fn bad_fields(&self) -> Vec<String> {
        let bad = self.status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        bad.into_iter().map(|one| one.field).collect()
    }

    /// The reason of the error's `ErrorInfo`.
    #[must_use]
    pub fn reason(&self) -> String {
        self.status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
    }

    /// What the replies of a step say when they turn away.
    #[must_use]
    pub fn turned_away(&self, method: &Method) -> Option<TurnedAway> {
        let reply = DynamicMessage::decode(method.output(), self.messages.first()?.clone()).unwrap();
        if !reply.has_field_by_name("turned_away") {
            return None;
        }
        match reply.get_field_by_name("turned_away")?.as_ref() {
            Value::Message(away) => Some(TurnedAway::decode(away.encode_to_vec().as_slice()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// What a quote found wrong with its first cart: fields and descriptions.
    #[must_use]
    pub fn bad_cart_of(&self, method: &Method) -> Option<Vec<(String, String)>> {
        use proto::order::v1::{QuoteResponse, quote_reply::Outcome};
        if method.name() != "Catalog/Quote" {
            return None;
        }
        let response = QuoteResponse::decode(self.messages.first()?.clone()).unwrap();
        match response.replies.into_iter().next()?.outcome? {
            Outcome::Invalid(invalid) => {
                Some(invalid.violations.into_iter().map(|v| (v.field, v.description)).collect())
            }
            Outcome::Quoted(_) => None,
        }
    }
}

/// Turned away because the item is wrong.
#[must_use]
pub fn is_invalid(away: &TurnedAway) -> bool {
    away.code() == turned_away::Code::Invalid
}
