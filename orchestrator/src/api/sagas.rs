//! `amends.saga.v1.Sagas`: what operators see and do.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use proto::{
    error, page,
    saga::v1::{
        ForceCompensateRequest, GetSagaRequest, ListJournalRequest, ListJournalResponse, ListSagasRequest,
        ListSagasResponse, ResolveRequest, RetryRequest, Saga, SagaState, WatchSagaRequest,
        sagas_server::Sagas,
    },
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use types::{SagaId, StepName};

use super::{Doors, LOOK_EVERY, check_text, database, show, stopping};
use crate::{
    hub::Place,
    journal::{self, Stored},
    saga::{Label, Phase, Resolution, State},
    signal::Said,
    store,
};

pub(super) struct SagasDoor(pub(super) Arc<Doors>);

type Shown = Pin<Box<dyn Stream<Item = Result<Saga, Status>> + Send>>;

#[tonic::async_trait]
impl Sagas for SagasDoor {
    type WatchSagaStream = Shown;

    async fn get_saga(&self, request: Request<GetSagaRequest>) -> Result<Response<Saga>, Status> {
        let saga = parse_saga(&request.get_ref().saga_id)?;
        self.0.saga(saga).await.map(|(_, shown)| Response::new(shown))
    }

    async fn list_sagas(
        &self,
        request: Request<ListSagasRequest>,
    ) -> Result<Response<ListSagasResponse>, Status> {
        let request = request.into_inner();
        let size = page::size(request.page_size)?;
        check_text("kind", &request.kind, 32)?;
        let state = match SagaState::try_from(request.state) {
            Ok(SagaState::Unspecified) => None,
            Ok(state) => Some(state.as_str_name().to_owned()),
            Err(_) => return Err(error::invalid("state", "UNKNOWN", "is not a saga state")),
        };
        let arguments = [state.as_deref().unwrap_or_default(), &request.kind];
        let before = match page::cursor(&arguments, &request.page_token)? {
            Some(cursor) => Some(cursor.parse().map_err(|_| page::not_ours())?),
            None => None,
        };
        let kind = (!request.kind.is_empty()).then(|| request.kind.clone());
        let mut connection = self.0.connection().await?;
        let limit = usize::try_from(size).unwrap_or(usize::MAX);
        let mut ids = store::saga::list(&mut connection, state.clone(), kind, before, size + 1)
            .await
            .map_err(|e| database(&e))?;
        let more = ids.len() > limit;
        ids.truncate(limit);
        let next_page_token = match ids.last() {
            Some(last) if more => page::token(&arguments, &last.to_string()),
            _ => String::new(),
        };
        let mut stored = journal::load(&mut connection, &ids).await.map_err(|e| database(&e))?;
        stored.sort_by_key(|s| std::cmp::Reverse(s.saga));
        let sagas = stored.iter().map(|s| show::saga(&self.0, s, None)).collect();
        Ok(Response::new(ListSagasResponse { sagas, next_page_token }))
    }

    async fn watch_saga(&self, request: Request<WatchSagaRequest>) -> Result<Response<Shown>, Status> {
        let saga = parse_saga(&request.get_ref().saga_id)?;
        let doors = Arc::clone(&self.0);
        let place = doors.hub.wait_for(saga);
        let (_, first) = doors.saga(saga).await?;
        let watching = Watching { doors, place, next: Some(first), seen: 0 };
        Ok(Response::new(Box::pin(futures_util::stream::unfold(watching, move |w| w.next(saga)))))
    }

    async fn list_journal(
        &self,
        request: Request<ListJournalRequest>,
    ) -> Result<Response<ListJournalResponse>, Status> {
        let request = request.into_inner();
        let saga = parse_saga(&request.saga_id)?;
        let size = page::size(request.page_size)?;
        let name = saga.to_string();
        let after = match page::cursor(&[&name], &request.page_token)? {
            Some(cursor) => cursor.parse().map_err(|_| page::not_ours())?,
            None => 0,
        };
        let mut connection = self.0.connection().await?;
        let mut rows =
            store::saga::entries(&mut connection, saga, after, size + 1).await.map_err(|e| database(&e))?;
        if rows.is_empty() && after == 0 {
            return Err(error::not_found("saga", &name));
        }
        let limit = usize::try_from(size).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_page_token = match rows.last() {
            Some(last) if more => page::token(&[&name], &last.version.to_string()),
            _ => String::new(),
        };
        Ok(Response::new(ListJournalResponse {
            entries: rows.into_iter().map(show::entry).collect(),
            next_page_token,
        }))
    }

    async fn retry(&self, request: Request<RetryRequest>) -> Result<Response<Saga>, Status> {
        let request = request.into_inner();
        let (saga, stored, state) = self.0.verb(&request.saga_id, &request.actor, &request.reason).await?;
        if state.label() != Label::Parked {
            return Err(wrong_state("SAGA_NOT_PARKED", "only what is parked can be retried", saga, &state));
        }
        let said = Said::Retry { actor: request.actor, reason: request.reason };
        self.0.say_and_wait(saga, stored.version, said).await
    }

    async fn force_compensate(
        &self,
        request: Request<ForceCompensateRequest>,
    ) -> Result<Response<Saga>, Status> {
        let request = request.into_inner();
        let (saga, stored, state) = self.0.verb(&request.saga_id, &request.actor, &request.reason).await?;
        if state.phase != Phase::Forward {
            return Err(wrong_state(
                "SAGA_NOT_FORWARD",
                "it goes back already, or is at its end",
                saga,
                &state,
            ));
        }
        if state.pivot_passed {
            let says = "it has passed its pivot and only goes forward: Retry, Resolve, or refund the order";
            return Err(wrong_state("PIVOT_PASSED", says, saga, &state));
        }
        let said = Said::ForceCompensate { actor: request.actor, reason: request.reason };
        self.0.say_and_wait(saga, stored.version, said).await
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<Saga>, Status> {
        let request = request.into_inner();
        let (saga, stored, state) = self.0.verb(&request.saga_id, &request.actor, &request.reason).await?;
        let said = self.0.resolution(&request, saga, &stored, &state)?;
        self.0.say_and_wait(saga, stored.version, said).await
    }
}

/// Somebody who watches a saga.
struct Watching {
    doors: Arc<Doors>,
    place: Place,
    next: Option<Saga>,
    seen: i64,
}

impl Watching {
    async fn next(mut self, saga: SagaId) -> Option<(Result<Saga, Status>, Self)> {
        loop {
            if let Some(shown) = self.next.take()
                && shown.version > self.seen
            {
                let ended = matches!(shown.state(), SagaState::Completed | SagaState::Compensated);
                self.seen = if ended { i64::MAX } else { shown.version };
                return Some((Ok(shown), self));
            }
            if self.seen == i64::MAX {
                return None;
            }
            let read = match self.doors.rest(&mut self.place, Instant::now() + LOOK_EVERY).await {
                true => self.doors.saga(saga).await,
                false => Err(stopping()),
            };
            match read {
                Ok((_, shown)) => self.next = Some(shown),
                Err(status) => {
                    self.seen = i64::MAX;
                    return Some((Err(status), self));
                }
            }
        }
    }
}

fn parse_saga(text: &str) -> Result<SagaId, Status> {
    text.parse().map_err(|e: types::IdError| error::invalid("saga_id", "MALFORMED", &e.to_string()))
}

fn wrong_state(reason: &str, says: &str, saga: SagaId, state: &State) -> Status {
    error::precondition(
        reason,
        says,
        [("saga_id", saga.to_string()), ("current", state.label().as_str().to_owned())],
    )
}

impl Doors {
    async fn stored(&self, saga: SagaId) -> Result<Stored, Status> {
        let mut connection = self.connection().await?;
        let stored = journal::load(&mut connection, &[saga]).await.map_err(|e| database(&e))?;
        stored.into_iter().next().ok_or_else(|| error::not_found("saga", &saga.to_string()))
    }

    async fn saga(&self, saga: SagaId) -> Result<(Stored, Saga), Status> {
        let stored = self.stored(saga).await?;
        let mut connection = self.connection().await?;
        let ownership = store::saga::ownership(&mut connection, saga).await.map_err(|e| database(&e))?;
        let shown = show::saga(self, &stored, ownership.as_ref());
        Ok((stored, shown))
    }

    /// What every verb needs: a saga, a person, a reason.
    async fn verb(
        &self,
        saga_id: &str,
        actor: &str,
        reason: &str,
    ) -> Result<(SagaId, Stored, State), Status> {
        let saga = parse_saga(saga_id)?;
        for (field, text) in [("actor", actor), ("reason", reason)] {
            if text.trim().is_empty() {
                return Err(error::invalid(
                    field,
                    "REQUIRED",
                    "must not be empty: the journal says who and why",
                ));
            }
            check_text(field, text, 256)?;
        }
        let stored = self.stored(saga).await?;
        let state = State::load(stored.events.iter().map(|r| (&r.event, r.at))).map_err(|e| {
            let why = stored.unreadable.clone().unwrap_or_else(|| e.to_string());
            error::precondition("UNREADABLE_JOURNAL", why, [("saga_id", saga.to_string())])
        })?;
        Ok((saga, stored, state))
    }

    fn resolution(
        &self,
        request: &ResolveRequest,
        saga: SagaId,
        stored: &Stored,
        state: &State,
    ) -> Result<Said, Status> {
        let step: StepName = request
            .step
            .parse()
            .map_err(|e: types::KeyError| error::invalid("step", "MALFORMED", &e.to_string()))?;
        let Some(position) = state.position(&step) else {
            return Err(error::invalid("step", "UNKNOWN_STEP", "is not a step of this saga"));
        };
        let resolution = match (request.outcome.as_str(), request.compensation) {
            ("DONE", _) => Resolution::Done,
            ("REFUSED", false) => Resolution::Refused,
            ("NOT_APPLIED", true) => Resolution::NotApplied,
            (_, false) => {
                return Err(error::invalid("outcome", "UNKNOWN", "must be DONE or REFUSED for a step"));
            }
            (_, true) => {
                return Err(error::invalid(
                    "outcome",
                    "UNKNOWN",
                    "must be DONE or NOT_APPLIED for a compensation",
                ));
            }
        };
        check_text("evidence", &request.evidence, 512)?;
        if request.evidence.trim().is_empty() {
            return Err(error::invalid("evidence", "REQUIRED", "must say where the proof lies"));
        }
        let output = match (resolution, request.compensation) {
            (Resolution::Done, false) => self
                .registry
                .find(&stored.kind, stored.definition_version, stored.definition_hash)
                .ok_or_else(|| error::precondition("UNKNOWN_DEFINITION", "this build cannot drive it", []))?
                .typed(position, &request.reply_json)
                .map_err(|e| error::invalid("reply_json", "MALFORMED", &e.to_string()))?,
            _ => String::new(),
        };
        if !state.may_resolve(position, request.compensation) || state.label() != Label::Parked {
            return Err(wrong_state(
                "NOTHING_TO_RESOLVE",
                "only an open step of a parked saga can be resolved",
                saga,
                state,
            ));
        }
        Ok(Said::Resolve {
            step,
            compensation: request.compensation,
            resolution,
            output,
            actor: request.actor.clone(),
            reason: request.reason.clone(),
            evidence: request.evidence.clone(),
        })
    }

    /// Durable first; then up to 2 s for the owner to have read it.
    async fn say_and_wait(&self, saga: SagaId, version: i64, said: Said) -> Result<Response<Saga>, Status> {
        let mut place = self.hub.wait_for(saga);
        self.say(saga, said).await?;
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            let (stored, shown) = self.saga(saga).await?;
            let is_read = stored.version > version || Instant::now() >= until;
            if is_read || !self.rest(&mut place, until).await {
                return Ok(Response::new(shown));
            }
        }
    }
}
