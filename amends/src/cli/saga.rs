//! `amends saga …`: sagas as operators see them, and the verbs that move a parked one.
//!
//! A verb names who gives it and why; both go into the journal. Read next: `saga/shape.rs`, how a saga looks.

mod shape;

use clap::{Args, Subcommand, ValueEnum};
use proto::saga::v1::{
    ForceCompensateRequest, GetSagaRequest, ListJournalRequest, ListSagasRequest, ResolveRequest,
    RetryRequest, SagaState, WatchSagaRequest, sagas_client::SagasClient,
};
use tonic::transport::Channel;

use super::{
    failure::Failure,
    server::{Rows, Server, ask},
    value::state_parser,
};

state_parser!(state, SagaState);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show a saga: its steps, what happens next and when
    #[command(after_help = "Examples:
  amends saga show saga_01h2xcejqtf2nbrexx3vqjhp41
  amends saga show ord_01h2xcejqtf2nbrexx3vqjhp41 --json")]
    Show(Named),
    /// List sagas, newest first
    #[command(
        after_help = "Examples:\n  amends saga list --state parked\n  amends saga list --kind order --limit 0"
    )]
    List(List),
    /// Show a saga and each of its changes, until its end
    #[command(after_help = "Example:\n  amends saga watch ord_01h2xcejqtf2nbrexx3vqjhp41")]
    Watch(Named),
    /// Show a saga's history, event by event
    #[command(after_help = "Example:\n  amends saga journal ord_01h2xcejqtf2nbrexx3vqjhp41")]
    Journal(Journal),
    /// Try what is parked again, with a fresh budget
    #[command(
        after_help = "Example:\n  amends saga retry saga_01h2xcejqtf2nbrexx3vqjhp41 --reason 'the provider is back'"
    )]
    Retry(Verb),
    /// Turn a saga round, before its pivot only
    #[command(
        after_help = "Example:\n  amends saga compensate saga_01h2xcejqtf2nbrexx3vqjhp41 --reason 'fraud'"
    )]
    Compensate(Verb),
    /// Give a step's outcome, with evidence, where no participant can
    #[command(after_help = "Examples:
  amends saga resolve saga_01h2xcejqtf2nbrexx3vqjhp41 --step charge --outcome refused \\
      --evidence 'provider ticket 4711' --reason 'the provider has no such charge'
  amends saga resolve saga_01h2xcejqtf2nbrexx3vqjhp41 --step charge --compensation --outcome done \\
      --evidence 're_123' --reason 'refunded by hand'")]
    Resolve(Resolve),
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// saga_… or ord_…
    saga: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only in this state, as in `parked`
    #[arg(long, value_parser = state)]
    state: Option<SagaState>,
    /// Only of this kind, as in `order`
    #[arg(long, default_value = "")]
    kind: String,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, Args)]
pub(crate) struct Journal {
    /// saga_… or ord_…
    saga: String,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, Args)]
pub(crate) struct Verb {
    /// saga_… or ord_…
    saga: String,
    /// Why, for the journal
    #[arg(long)]
    reason: String,
    /// Who, for the journal
    #[arg(long, env = "USER", hide_env_values = true, default_value = "unknown")]
    actor: String,
}

#[derive(Debug, Args)]
pub(crate) struct Resolve {
    #[command(flatten)]
    verb: Verb,
    /// Which step, as in `charge`
    #[arg(long, value_name = "NAME")]
    step: String,
    /// It is the outcome of the step's compensation
    #[arg(long)]
    compensation: bool,
    /// What happened
    #[arg(long, value_enum)]
    outcome: Outcome,
    /// The step's …Done message as JSON, where it has fields
    #[arg(long, value_name = "JSON", default_value = "")]
    reply: String,
    /// Where the proof lies, as in the provider's reference
    #[arg(long)]
    evidence: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Outcome {
    Done,
    /// A step's only
    Refused,
    /// A compensation's only: there was nothing to take back
    NotApplied,
}

impl Command {
    pub(crate) async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        let saga = match self {
            Self::List(list) => return list.run(server).await,
            Self::Journal(journal) => return journal.run(server).await,
            Self::Watch(named) => return named.watch(server).await,
            Self::Show(Named { saga }) => {
                client(server).await?.get_saga(ask(GetSagaRequest { saga_id: saga })).await?.into_inner()
            }
            Self::Retry(Verb { saga, reason, actor }) => {
                let request = RetryRequest { saga_id: saga, actor, reason };
                client(server).await?.retry(ask(request)).await?.into_inner()
            }
            Self::Compensate(Verb { saga, reason, actor }) => {
                let request = ForceCompensateRequest { saga_id: saga, actor, reason };
                client(server).await?.force_compensate(ask(request)).await?.into_inner()
            }
            Self::Resolve(resolve) => {
                client(server).await?.resolve(ask(resolve.request()?)).await?.into_inner()
            }
        };
        screen.one(|| shape::json(&saga), shape::text(&saga))
    }
}

impl Named {
    async fn watch(self, server: &Server) -> Result<(), Failure> {
        let request = WatchSagaRequest { saga_id: self.saga };
        let mut changes = client(server).await?.watch_saga(request).await?.into_inner();
        while let Some(saga) = changes.message().await? {
            server.screen().next(|| shape::json(&saga), shape::line(&saga))?;
        }
        Ok(())
    }
}

impl List {
    async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        let client = client(server).await?;
        let fetch = |page_size, page_token| {
            let state = self.state.unwrap_or_default().into();
            let request = ListSagasRequest { page_size, page_token, state, kind: self.kind.clone() };
            let mut client = client.clone();
            async move {
                let page = client.list_sagas(ask(request)).await?.into_inner();
                Ok((page.sagas, page.next_page_token))
            }
        };
        let sagas = self.rows.collect(screen, fetch).await?;
        screen.one(|| shape::list_json(&sagas), shape::table(&sagas))
    }
}

impl Journal {
    async fn run(self, server: &Server) -> Result<(), Failure> {
        let screen = server.screen();
        let client = client(server).await?;
        let fetch = |page_size, page_token| {
            let request = ListJournalRequest { saga_id: self.saga.clone(), page_size, page_token };
            let mut client = client.clone();
            async move {
                let page = client.list_journal(ask(request)).await?.into_inner();
                Ok((page.entries, page.next_page_token))
            }
        };
        let entries = self.rows.collect(screen, fetch).await?;
        screen.one(|| shape::journal_json(&entries), shape::journal_table(&entries))
    }
}

impl Resolve {
    fn request(self) -> Result<ResolveRequest, Failure> {
        let outcome = match (self.outcome, self.compensation) {
            (Outcome::Done, _) => "DONE",
            (Outcome::Refused, false) => "REFUSED",
            (Outcome::NotApplied, true) => "NOT_APPLIED",
            (Outcome::Refused, true) => {
                return Err(Failure::Usage(
                    "a compensation cannot be refused: --outcome done or not-applied".into(),
                ));
            }
            (Outcome::NotApplied, false) => {
                return Err(Failure::Usage(
                    "not-applied is an outcome of compensations: add --compensation".into(),
                ));
            }
        };
        if !self.reply.is_empty() && serde_json::from_str::<serde_json::Value>(&self.reply).is_err() {
            return Err(Failure::Usage("--reply is not JSON".into()));
        }
        Ok(ResolveRequest {
            saga_id: self.verb.saga,
            actor: self.verb.actor,
            reason: self.verb.reason,
            step: self.step,
            compensation: self.compensation,
            outcome: outcome.to_owned(),
            reply_json: self.reply,
            evidence: self.evidence,
        })
    }
}

async fn client(server: &Server) -> Result<SagasClient<Channel>, Failure> {
    Ok(SagasClient::new(server.connect().await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(outcome: Outcome, compensation: bool, reply: &str) -> Result<ResolveRequest, Failure> {
        let verb = Verb { saga: "saga_x".into(), reason: "r".into(), actor: "me".into() };
        let (step, evidence) = ("charge".into(), "e".into());
        Resolve { verb, step, compensation, outcome, reply: reply.into(), evidence }.request()
    }

    #[test]
    fn an_outcome_must_fit_what_it_is_an_outcome_of() {
        assert_eq!(resolve(Outcome::Refused, false, "").unwrap().outcome, "REFUSED");
        assert_eq!(resolve(Outcome::NotApplied, true, "").unwrap().outcome, "NOT_APPLIED");
        assert_eq!(resolve(Outcome::Done, true, "{\"payment_id\":\"pay_1\"}").unwrap().outcome, "DONE");
        assert!(matches!(resolve(Outcome::Refused, true, ""), Err(Failure::Usage(_))));
        assert!(matches!(resolve(Outcome::NotApplied, false, ""), Err(Failure::Usage(_))));
        assert!(matches!(resolve(Outcome::Done, false, "{"), Err(Failure::Usage(_))));
    }
}
