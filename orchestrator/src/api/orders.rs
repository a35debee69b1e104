//! `amends.order.v1.Orders`.

mod begin;
mod waiting;

use std::{
    future::ready,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use chassis::seeded::{Bug, is};
use futures_util::{
    Stream,
    future::{Either, select},
};
use prost::Message as _;
use proto::{
    error,
    order::v1::{
        CancelOrderRequest, CreateOrderRequest, GetOrderRequest, ListOrdersRequest, ListOrdersResponse,
        Order, OrderStatus, Quoted, WatchOrderRequest, orders_server::Orders,
    },
    page,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use types::OrderId;

use self::{
    begin::{begun_row, new_start},
    waiting::Watching,
};
use super::{
    Doors, check_text,
    create::{self, Checked},
    database, show,
};
use crate::{
    catalog::Kind,
    driver::{self, Fresh},
    metrics,
    saga::Event,
    signal::Said,
    store::{
        self,
        order::{Filter, OrderRow},
        start::{Begun, Key},
    },
};

pub(super) struct OrdersDoor(pub(super) Arc<Doors>);

type Orders_ = Pin<Box<dyn Stream<Item = Result<Order, Status>> + Send>>;

#[tonic::async_trait]
impl Orders for OrdersDoor {
    type WatchOrderStream = Orders_;

    async fn create_order(&self, request: Request<CreateOrderRequest>) -> Result<Response<Order>, Status> {
        let (headers, _, request) = request.into_parts();
        let checked = create::check(&headers, request)?;
        let doors = &self.0;
        match doors.look_and_quote(&checked).await? {
            Either::Left(replayed) => Ok(replayed),
            Either::Right(quoted) => doors.start(checked, quoted).await,
        }
    }

    async fn get_order(&self, request: Request<GetOrderRequest>) -> Result<Response<Order>, Status> {
        let order = parse_order(&request.get_ref().order_id)?;
        let name = format!("order:{}", order.uuid());
        if let Some(bytes) = self.0.cache.get(&name).await
            && let Ok(order) = Order::decode(bytes.as_slice())
        {
            return Ok(Response::new(order));
        }
        let row = self.0.order_row(order).await?;
        let shown = shown(&row)?;
        if show::is_ended(&row.status) {
            // An end never changes, so it may be remembered.
            self.0.cache.set(&name, shown.encode_to_vec(), Duration::from_secs(60)).await;
        }
        Ok(Response::new(shown))
    }

    async fn list_orders(
        &self,
        request: Request<ListOrdersRequest>,
    ) -> Result<Response<ListOrdersResponse>, Status> {
        let request = request.into_inner();
        let size = page::size(request.page_size)?;
        check_text("merchant_id", &request.merchant_id, 64)?;
        check_text("customer_id", &request.customer_id, 64)?;
        let status = match OrderStatus::try_from(request.status) {
            Ok(OrderStatus::Unspecified) => None,
            Ok(status) => Some(status.as_str_name().to_owned()),
            Err(_) => return Err(error::invalid("status", "UNKNOWN", "is not an order status")),
        };
        let arguments = [&request.merchant_id, &request.customer_id, status.as_deref().unwrap_or_default()];
        let arguments: Vec<&str> = arguments.to_vec();
        let before = match page::cursor(&arguments, &request.page_token)? {
            Some(cursor) => Some(cursor.parse().map_err(|_| page::not_ours())?),
            None => None,
        };
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let filter = Filter {
            merchant: some(&request.merchant_id),
            customer: some(&request.customer_id),
            status: status.clone(),
            before,
        };
        let mut connection = self.0.connection().await?;
        let mut rows =
            store::order::list(&mut connection, filter, size + 1).await.map_err(|e| database(&e))?;
        let more = rows.len() > usize::try_from(size).unwrap_or(usize::MAX);
        rows.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        let next_page_token = match rows.last() {
            Some(last) if more => page::token(&arguments, &last.order.to_string()),
            _ => String::new(),
        };
        let orders = rows.iter().map(shown).collect::<Result<_, _>>()?;
        Ok(Response::new(ListOrdersResponse { orders, next_page_token }))
    }

    async fn cancel_order(&self, request: Request<CancelOrderRequest>) -> Result<Response<Order>, Status> {
        let request = request.into_inner();
        let order = parse_order(&request.order_id)?;
        check_text("reason", &request.reason, 256)?;
        self.0.cancel(order, request.reason).await.map(Response::new)
    }

    async fn watch_order(&self, request: Request<WatchOrderRequest>) -> Result<Response<Orders_>, Status> {
        let order = parse_order(&request.get_ref().order_id)?;
        let doors = Arc::clone(&self.0);
        let place = doors.hub.wait_for(order.saga());
        let row = doors.order_row(order).await?;
        let first = Watching::from(doors, place, row);
        Ok(Response::new(Box::pin(futures_util::stream::unfold(first, move |watching| watching.next(order)))))
    }
}

fn parse_order(text: &str) -> Result<OrderId, Status> {
    text.parse().map_err(|e: types::IdError| error::invalid("order_id", "MALFORMED", &e.to_string()))
}

fn shown(row: &OrderRow) -> Result<Order, Status> {
    show::order(row).ok_or_else(|| {
        tracing::error!(order.id = %row.order, "the stored input of an order cannot be read");
        error::internal("the stored order cannot be read")
    })
}

/// A quote takes less, and then nobody looks a key up that is most likely new.
const LOOK_UP_AFTER: Duration = Duration::from_millis(50);

impl Doors {
    /// The saga of a new order.
    fn newest(&self) -> Option<Arc<dyn Kind>> {
        self.registry.newest("order", &self.owned.listed())
    }

    async fn known_key(&self, checked: &Checked) -> Result<Option<Key>, Status> {
        let Some(key) = &checked.key else { return Ok(None) };
        self.found
            .submit((checked.merchant.as_str().to_owned(), key.clone()), None)
            .await
            .map_err(|none| self.no_answer(none))
    }

    /// Whether a key is looked up whatever the prices are: where requests are being repeated, and where a repeat would take what
    /// is there for new orders only.
    fn must_look(&self) -> bool {
        let is_limited = self.settings.merchant_orders_per_second > 0;
        is_limited || self.repeats.are_about(Instant::now()) || self.newest().is_none()
    }

    /// The answer to a request that was accepted before, or what a new order costs. A key that nobody looked up is found to be
    /// taken when the order is stored.
    async fn look_and_quote(&self, checked: &Checked) -> Result<Either<Response<Order>, Quoted>, Status> {
        let must_look = checked.key.is_none() || self.must_look();
        let known = async {
            if !must_look {
                tokio::time::sleep(LOOK_UP_AFTER).await;
            }
            self.known_key(checked).await
        };
        // Both are asked at once, since a quote stores nothing; but a key that is known is answered without a catalog.
        let (known, quote) = (pin!(known), pin!(self.quote(checked)));
        let (known, looked, quote) = match select(known, quote).await {
            Either::Left((known, quote)) => (known?, true, Either::Left(quote)),
            Either::Right((quoted, known)) if must_look => (known.await?, true, Either::Right(ready(quoted))),
            Either::Right((quoted, _)) => (None, false, Either::Right(ready(quoted))),
        };
        if let Some(key) = known {
            return self.replay(checked, &key).await.map(Either::Left);
        }
        let (refused, was_priced) = match self.admit(checked).await {
            Err(status) => (status, false),
            Ok(()) => match quote.await {
                Ok(Ok(quoted)) => return Ok(Either::Right(quoted)),
                Ok(Err(violations)) => (error::invalid_fields(violations), true),
                Err(status) => (status, false),
            },
        };
        // The same request may have been accepted before; meanwhile, even, under an older price list.
        if looked && !was_priced {
            return Err(refused);
        }
        match self.known_key(checked).await? {
            Some(key) => self.replay(checked, &key).await.map(Either::Left),
            None => Err(refused),
        }
    }

    /// A key that is known: the same order as it now is, or a refusal when it was used for something else.
    async fn replay(&self, checked: &Checked, key: &Key) -> Result<Response<Order>, Status> {
        self.repeats.seen(Instant::now());
        tracing::Span::current().record("saga.id", tracing::field::display(key.order.saga()));
        if key.fingerprint != checked.fingerprint && !is(Bug::FingerprintIgnored) {
            metrics::idempotency("mismatch");
            return Err(error::already_exists(
                "IDEMPOTENCY_KEY_REUSED",
                "this request_id was used before for another order: use a new one",
                [
                    ("request_id", checked.key.clone().unwrap_or_default()),
                    ("order_id", key.order.to_string()),
                    ("first_seen", key.create_time.to_rfc3339()),
                ],
            ));
        }
        metrics::idempotency("replayed");
        let place = self.hub.wait_for(key.order.saga());
        let row = self.wait(place, key.order, None, checked.wait).await?;
        let mut response = Response::new(shown(&row)?);
        response
            .metadata_mut()
            .insert("idempotent-replayed", tonic::metadata::MetadataValue::from_static("true"));
        Ok(response)
    }

    /// Limits that protect what is already accepted.
    async fn admit(&self, checked: &Checked) -> Result<(), Status> {
        use chassis::limiter::{Limit, Taken};
        let per_second = self.settings.merchant_orders_per_second;
        if per_second > 0 {
            let limit = Limit { per_second, burst: per_second };
            let merchant = checked.merchant.as_str();
            if let Taken::Denied { retry_after } =
                self.limiter.take(&format!("create:{merchant}"), limit).await
            {
                return Err(error::exhausted(
                    "RATE_LIMITED",
                    format!("merchant {merchant} may create {per_second} orders per second"),
                    retry_after,
                    [("merchant_id", merchant.to_owned()), ("per_second", per_second.to_string())],
                ));
            }
        }
        let active = self.load.active.load(std::sync::atomic::Ordering::Relaxed);
        if active >= self.settings.max_in_flight {
            return Err(error::exhausted(
                "TOO_MANY_IN_FLIGHT",
                format!("{active} orders are in flight, as many as this orchestrator takes"),
                Duration::from_secs(1),
                [("in_flight", active.to_string())],
            ));
        }
        Ok(())
    }

    async fn start(&self, checked: Checked, quoted: Quoted) -> Result<Response<Order>, Status> {
        let kind = self.newest().ok_or_else(|| {
            let says = "the living orchestrators have no version of the order saga in common";
            error::unavailable("NO_COMMON_DEFINITION", says, Duration::from_secs(1))
        })?;
        let order = OrderId::from_uuid(chassis::clock::new_uuid());
        let place = self.hub.wait_for(order.saga());
        // A shard of our own where there is one; else any, and its owner hears of it.
        let owned = self.owned.shards();
        let own = (!owned.is_empty()).then(|| owned[rand::random_range(0..owned.len())]);
        let (shard, epoch) = own.unwrap_or_else(|| (rand::random_range(0..16), 0));
        let start = new_start((kind.as_ref(), &self.keys), &checked, quoted, order, shard, epoch)?;
        let fresh = Fresh {
            saga: order.saga(),
            shard,
            epoch,
            kind: start.kind.to_owned(),
            definition_version: start.definition_version,
            definition_hash: start.definition_hash,
            started: start.started.clone(),
        };
        let first = start.started.clone();
        let begun = self.starts.submit(start, None).await;
        if begun.is_err() && is(Bug::AcknowledgedUnstored) {
            return Ok(Response::new(Order { order_id: order.to_string(), ..Order::default() }));
        }
        match begun.map_err(|none| self.no_answer(none))? {
            Begun::KeyTaken(key) => return self.replay(&checked, &key).await,
            Begun::Started => metrics::idempotency("new"),
        }
        tracing::Span::current().record("saga.id", tracing::field::display(order.saga()));
        // Still ours after the commit: else its new owner may have looked before it was there.
        if own.is_some_and(|own| self.owned.shards().contains(&own)) {
            let _ = self.driver.send(driver::Input::Fresh(Box::new(fresh)));
        } else if let Err(status) = self.say(order.saga(), Said::Begin).await {
            // The order is durable and its owner's sweep finds it; only the hint is missing.
            tracing::warn!(order.id = %order, code = ?status.code(), "the owner was not told of a new saga");
        }
        let row = self.wait_for_new(place, begun_row(order, first), checked.wait).await?;
        Ok(Response::new(shown(&row)?))
    }

    async fn cancel(&self, order: OrderId, reason: String) -> Result<Order, Status> {
        let mut place = self.hub.wait_for(order.saga());
        let mut row = self.order_row(order).await?;
        let until = Instant::now() + Duration::from_secs(2);
        if !show::is_ended(&row.status) && !row.cancel_requested {
            self.say(order.saga(), Said::Cancel { reason }).await?;
        }
        while !show::is_ended(&row.status) && Instant::now() < until && self.rest(&mut place, until).await {
            row = self.order_row(order).await?;
        }
        let completed = row.status == "COMPLETED";
        if completed || (!row.cancel_requested && self.is_past_pivot(order).await?) {
            return Err(error::precondition(
                "ORDER_NOT_CANCELLABLE",
                "the order has passed the point after which it only goes forward",
                [("order_id", order.to_string()), ("current", row.status)],
            ));
        }
        let mut shown = shown(&row)?;
        // Durable, even where the owner has not read it yet.
        shown.cancel_requested = true;
        Ok(shown)
    }

    async fn is_past_pivot(&self, order: OrderId) -> Result<bool, Status> {
        let mut connection = self.connection().await?;
        let stored =
            crate::journal::load(&mut connection, &[order.saga()]).await.map_err(|e| database(&e))?;
        Ok(stored.iter().flat_map(|s| &s.events).any(|r| r.event == Event::PivotPassed))
    }
}
