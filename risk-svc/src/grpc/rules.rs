//! `amends.risk.v1.Rules`: the rules and the deny list. What is set here holds for the next step that is screened.

use proto::{
    error::{self, Violation},
    risk::v1::{
        AllowRequest, AllowResponse, DenyRequest, DenyResponse, ListRulesRequest, ListRulesResponse,
        Rule as WireRule, SetRuleRequest, rules_server::Rules,
    },
};
use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tonic::{Request, Response, Status};

use super::{customer, remark, status};
use crate::{
    domain::{Kind, Rule},
    store::rule,
};

/// Serves it.
#[derive(Clone)]
pub(crate) struct Book {
    pub(crate) pool: PgPool,
}

#[tonic::async_trait]
impl Rules for Book {
    async fn list_rules(
        &self,
        _request: Request<ListRulesRequest>,
    ) -> Result<Response<ListRulesResponse>, Status> {
        let rules = rule::list(&mut *self.connection().await?).await.map_err(status)?;
        Ok(Response::new(ListRulesResponse { rules: rules.into_iter().map(show).collect() }))
    }

    async fn set_rule(&self, request: Request<SetRuleRequest>) -> Result<Response<WireRule>, Status> {
        let rule = request.into_inner().rule;
        let rule = rule.ok_or_else(|| error::invalid("rule", "MISSING", "must be given"))?;
        let rule = read(&rule).map_err(error::invalid_fields)?;
        rule::set(&mut *self.connection().await?, &rule).await.map_err(status)?;
        let rule = show(rule);
        tracing::info!(
            rule.kind = rule.kind,
            rule.currency = rule.currency_code,
            rule.threshold = rule.threshold,
            rule.window_seconds = rule.window_seconds,
            rule.enabled = rule.enabled,
            "a rule was set"
        );
        Ok(Response::new(rule))
    }

    async fn deny(&self, request: Request<DenyRequest>) -> Result<Response<DenyResponse>, Status> {
        let DenyRequest { customer_id, reason } = request.into_inner();
        let (customer, reason_fits) = (customer(&customer_id), remark("reason", &reason, 1, 500));
        let customer = match (customer, reason_fits) {
            (Ok(customer), Ok(())) => customer,
            (customer, reason) => {
                let bad = [customer.map(drop), reason].into_iter().filter_map(Result::err);
                return Err(error::invalid_fields(bad.collect()));
            }
        };
        rule::deny(&mut *self.connection().await?, customer, reason).await.map_err(status)?;
        tracing::info!(customer.id = customer_id, "a customer is denied");
        Ok(Response::new(DenyResponse {}))
    }

    async fn allow(&self, request: Request<AllowRequest>) -> Result<Response<AllowResponse>, Status> {
        let customer_id = request.into_inner().customer_id;
        let customer = customer(&customer_id).map_err(|bad| error::invalid_fields(vec![bad]))?;
        if rule::allow(&mut *self.connection().await?, customer).await.map_err(status)? {
            tracing::info!(customer.id = customer_id, "a customer is no longer denied");
        }
        Ok(Response::new(AllowResponse {}))
    }
}

impl Book {
    async fn connection(&self) -> Result<PoolConnection<Postgres>, Status> {
        self.pool.acquire().await.map_err(status)
    }
}

pub(crate) fn read(rule: &WireRule) -> Result<Rule, Vec<Violation>> {
    let mut bad = Vec::new();
    let kind = Kind::parse(&rule.kind);
    if kind.is_none() {
        let description = "must be AMOUNT_REVIEW or VELOCITY_REVIEW";
        bad.push(Violation::new("rule.kind", "UNKNOWN_RULE", description));
    }
    let currency = match rule.currency_code.as_str() {
        "" => None,
        code => code
            .parse()
            .map_err(|why: types::MoneyError| {
                bad.push(Violation::new("rule.currency_code", "BAD_CURRENCY", why.to_string()));
            })
            .ok(),
    };
    let (Some(kind), true) = (kind, bad.is_empty()) else { return Err(bad) };
    let &WireRule { threshold, window_seconds, enabled, .. } = rule;
    let rule = Rule { kind, currency, threshold, window_seconds, enabled };
    let violation = |(field, why)| Violation::new(format!("rule.{field}"), "BAD_RULE", why);
    rule.check().map(|()| rule).map_err(|bad| bad.into_iter().map(violation).collect())
}

pub(crate) fn show(rule: Rule) -> WireRule {
    WireRule {
        kind: rule.kind.as_str().to_owned(),
        currency_code: rule.currency.map(|currency| currency.to_string()).unwrap_or_default(),
        threshold: rule.threshold,
        window_seconds: rule.window_seconds,
        enabled: rule.enabled,
    }
}
