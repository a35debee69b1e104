//! Stands between an orchestrator and a participant: repeats calls, loses answers, fails before anything happened.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use chassis::{
    bus::{Bus, Error, Handler, Message, Published, Queue},
    grpc::{CallError, Callee},
};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tonic::{Status, body::Body};
use tower::{ServiceExt as _, service_fn, util::BoxCloneSyncService};

use crate::doors::drops::{HangUp, Until};

/// What is done to calls of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meddling {
    /// Every call is made twice; the second answer counts.
    Repeat,
    /// The first call of each method takes effect and its answer is lost.
    LoseFirstAnswer,
    /// The first call of each method never arrives.
    LoseFirstCall,
    /// Each call is made twice, and the first time the caller hangs up, one wait later than the time before.
    HangUp,
    /// Nothing; but how many items each booking had is noted.
    Watch,
}

/// Counts what was done, by method.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<HashMap<String, usize>>>, Arc<Mutex<Vec<usize>>>);

impl Record {
    fn count(&self, method: &str) -> usize {
        let mut counts = self.0.lock().unwrap();
        let count = counts.entry(method.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// Where the next caller of this hangs up.
    fn next_hang_up(&self, what: &str) -> HangUp {
        // Further than any handler waits is as good as not at all.
        HangUp::nth((self.count(what) - 1) % 16)
    }

    /// Whether the caller hung up in time.
    fn note_hang_up(&self, what: &str, hung_up: bool) {
        self.count(&format!("{what}: {}", if hung_up { "hung up" } else { "was through" }));
    }

    /// How often this was done.
    #[must_use]
    pub fn times(&self, what: &str) -> usize {
        self.0.lock().unwrap().get(what).copied().unwrap_or_default()
    }

    fn note(&self, method: &str, body: &[u8]) {
        if method.ends_with("LedgerSteps/Post")
            && let Some(message) = body.get(5..)
            && let Ok(request) = proto::ledger::v1::PostRequest::decode(message)
        {
            self.1.lock().unwrap().push(request.items.len());
        }
    }

    /// How many items each exchange of bookings had, in order.
    #[must_use]
    pub fn bookings(&self) -> Vec<usize> {
        self.1.lock().unwrap().clone()
    }

    /// The methods that were meddled with.
    #[must_use]
    pub fn methods(&self) -> Vec<String> {
        let mut methods: Vec<_> = self.0.lock().unwrap().keys().cloned().collect();
        methods.sort();
        methods
    }
}

async fn send(
    callee: Callee,
    parts: http::request::Parts,
    body: bytes::Bytes,
) -> Result<http::Response<Body>, CallError> {
    let mut request = http::Request::new(Body::new(Full::new(body)));
    *request.method_mut() = parts.method;
    *request.uri_mut() = parts.uri;
    *request.version_mut() = parts.version;
    *request.headers_mut() = parts.headers;
    callee.oneshot(request).await
}

/// A callee whose step calls are meddled with.
#[must_use]
pub(crate) fn meddle(callee: Callee, meddling: Meddling, record: Record) -> Callee {
    BoxCloneSyncService::new(service_fn(move |request: http::Request<Body>| {
        let (callee, record) = (callee.clone(), record.clone());
        async move {
            let path = request.uri().path().to_owned();
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            if !path.contains("Steps/") {
                return send(callee, parts, body).await;
            }
            let nth = record.count(&path);
            record.note(&path, &body);
            Ok(match meddling {
                Meddling::LoseFirstCall if nth == 1 => Status::unknown("the call was lost").into_http(),
                Meddling::LoseFirstAnswer if nth == 1 => {
                    let answer = send(callee, parts, body).await?;
                    let _ = answer.into_body().collect().await;
                    Status::unknown("the answer was lost").into_http()
                }
                Meddling::Repeat => {
                    let first = send(callee.clone(), parts.clone(), body.clone()).await?;
                    let _ = first.into_body().collect().await;
                    send(callee, parts, body).await?
                }
                Meddling::HangUp => {
                    let hang_up = record.next_hang_up(&format!("{path} dropped"));
                    let (first, its_parts, its_body) = (callee.clone(), parts.clone(), body.clone());
                    let call = async move {
                        if let Ok(answer) = send(first, its_parts, its_body).await {
                            let _ = answer.into_body().collect().await;
                        }
                    };
                    let brought = Until::new(call, hang_up).await;
                    record.note_hang_up(&path, brought.is_none());
                    send(callee, parts, body).await?
                }
                Meddling::LoseFirstCall | Meddling::LoseFirstAnswer | Meddling::Watch => {
                    send(callee, parts, body).await?
                }
            })
        }
    }))
}

/// A bus that says everything twice.
pub(crate) struct DoubledBus(pub(crate) Arc<dyn Bus>);

#[async_trait]
impl Bus for DoubledBus {
    async fn publish(&self, messages: &[Message]) -> Vec<Published> {
        self.0.publish(messages).await;
        self.0.publish(messages).await
    }

    async fn subscribe(&self, queue: Queue, handler: Arc<dyn Handler>) -> Result<(), Error> {
        self.0.subscribe(queue, handler).await
    }
}

/// A bus on which whoever hands a message over hangs up in the middle, one wait later each time, and then hands it over.
pub(crate) struct HangingBus(pub(crate) Arc<dyn Bus>, pub(crate) Record);

#[async_trait]
impl Bus for HangingBus {
    async fn publish(&self, messages: &[Message]) -> Vec<Published> {
        for message in messages {
            let what = format!("{} for {}", message.kind, message.routing_key);
            let hang_up = self.1.next_hang_up(&format!("{what} dropped"));
            let brought = Until::new(self.0.publish(std::slice::from_ref(message)), hang_up).await;
            self.1.note_hang_up(&what, brought.is_none());
        }
        self.0.publish(messages).await
    }

    async fn subscribe(&self, queue: Queue, handler: Arc<dyn Handler>) -> Result<(), Error> {
        self.0.subscribe(queue, handler).await
    }
}
