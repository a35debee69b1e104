//! Calls that are wrong before their message is looked at: frames, encodings, headers.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use tonic::Code;

use super::{
    Method,
    call::{Call, frame, framed},
};

/// One of them, with what must come of it.
#[derive(Debug, Clone)]
pub struct Odd {
    pub how: &'static str,
    pub call: Call,
    /// None: it is answered as if nothing were wrong.
    pub code: Option<Code>,
}

/// Whatever door takes at most this much.
const ABOVE_EVERY_LIMIT: u32 = 16 * 1024 * 1024 + 1;

/// For one method with a good message.
#[must_use]
pub fn calls(method: &Method, good: &[u8]) -> Vec<Odd> {
    let call = Call::of(method, good);
    let body = |body: Bytes| Call { body, ..call.clone() };
    let header = |name: &'static str, value: &[u8]| {
        let mut call = call.clone();
        call.headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        call
    };
    let length = u32::try_from(good.len()).unwrap();
    let odd = |how, call, code: Option<Code>| Odd { how, call, code };
    let invalid = Some(Code::InvalidArgument);
    // The one door that reads it.
    let key = if method.name() == "Orders/CreateOrder" { invalid } else { None };
    let mut all = vec![
        odd("no message", body(Bytes::new()), invalid),
        odd("half a frame's head", body(Bytes::from_static(&[0, 0, 0])), invalid),
        odd("a frame that promises more", body(framed(0, length + 1, good)), invalid),
        odd("a frame above every limit", body(framed(0, ABOVE_EVERY_LIMIT, good)), invalid),
        odd("a frame of 4 GiB", body(framed(0, u32::MAX, good)), invalid),
        odd("compressed without an encoding", body(framed(1, length, good)), invalid),
        odd("a flag that does not exist", body(framed(7, length, good)), invalid),
        odd("gzip, which nobody offers", header("grpc-encoding", b"gzip"), Some(Code::Unimplemented)),
        odd(
            "an encoding that does not exist",
            header("grpc-encoding", b"brot\xe9"),
            Some(Code::Unimplemented),
        ),
        odd("a time-out that is none", header("grpc-timeout", b"soon"), None),
        odd("a time-out of nine digits", header("grpc-timeout", b"999999999S"), None),
        odd("a trace that is none", header("traceparent", b"00-\xff-zz-01"), None),
        odd("binary metadata that is not base64", header("x-odd-bin", b"!!!"), None),
        odd("an idempotency key of 10,000 characters", header("idempotency-key", &[b'k'; 10_000]), key),
        odd("an idempotency key that is not ASCII", header("idempotency-key", "kéy".as_bytes()), key),
        odd("an idempotency key that differs from request_id", header("idempotency-key", b"another"), key),
    ];
    let twice = [frame(good), frame(good)].concat();
    // A unary call is its first message: tonic reads no further.
    all.push(odd("two messages", body(twice.into()), None));
    all.push(odd("JSON", Call { body: "{}".into(), ..header("content-type", b"application/json") }, invalid));
    all
}

/// Names that nobody serves.
#[must_use]
pub fn strangers() -> Vec<Odd> {
    let method = Method::all().remove(0);
    [
        "/amends.order.v1.Orders/DropOrder",
        "/amends.order.v2.Orders/GetOrder",
        "/x/y",
        "/",
        "/a/b/c",
        "/amends.order.v1.Orders/",
    ]
    .map(|path| Odd {
        how: path,
        call: Call { path: path.into(), ..Call::of(&method, &[]) },
        code: Some(Code::Unimplemented),
    })
    .to_vec()
}
