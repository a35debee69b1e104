//! The auditor in a process of its own: health and metrics, and nothing to call.
//!
//! It needs every database and no broker, as a role that only reads. Any number may run; one audits. Read next:
//! `../auditor.rs`.

use std::time::Duration;

use anyhow::anyhow;
use chassis::{http::Checks, stop::Stop, telemetry};
use clap::Args;
use tonic::service::RoutesBuilder;

use crate::{
    audit::Options,
    auditor::{Auditor, Schedule},
    database_urls::ReadFrom,
    host::{self, Stops, Usage},
    process::Process,
    stack::Front,
};

#[derive(Debug, Args)]
#[command(after_help = "Example:
  amends auditor --database-url postgres://amends_auditor@db/amends --every 5m

Metrics: amends_audit_violations{invariant}, amends_audit_money_at_risk_minor_units{currency}, amends_audit_units_held,
amends_audit_open_sagas, amends_audit_oldest_open_saga_seconds, amends_audit_last_run_time_seconds,
amends_audit_last_run_duration_seconds, amends_audit_runs_total{result}, amends_audit_at_work.")]
pub(crate) struct AuditorAlone {
    /// How often it audits
    #[arg(long, env = "AMENDS_AUDIT_EVERY", value_name = "TIME", default_value = "5m",
        value_parser = humantime::parse_duration)]
    every: Duration,
    /// How often it audits everything, and not only what came since
    #[arg(long, env = "AMENDS_AUDIT_WHOLE_EVERY", value_name = "TIME", default_value = "1d",
        value_parser = humantime::parse_duration)]
    whole_every: Duration,
    /// How long a saga may be open after its deadline
    #[arg(long, env = "AMENDS_AUDIT_SAGA_GRACE", value_name = "TIME", default_value = "10m",
        value_parser = humantime::parse_duration)]
    saga_grace: Duration,
    /// How long a message may wait in an outbox
    #[arg(long, env = "AMENDS_AUDIT_OUTBOX_GRACE", value_name = "TIME", default_value = "2m",
        value_parser = humantime::parse_duration)]
    outbox_grace: Duration,
    /// How long what was booked may wait to be sealed in the ledger's chain
    #[arg(long, env = "AMENDS_AUDIT_SEAL_GRACE", value_name = "TIME", default_value = "2m",
        value_parser = humantime::parse_duration)]
    seal_grace: Duration,
    #[command(flatten)]
    process: Process,
    #[command(flatten, next_help_heading = "Databases")]
    databases: ReadFrom,
}

impl AuditorAlone {
    pub(crate) fn telemetry(&self) -> telemetry::Options {
        self.process.telemetry("amends-auditor")
    }

    pub(crate) async fn run(self, stops: Stops) -> anyhow::Result<()> {
        let Some(sources) = self.databases.sources()? else {
            let text = "`amends auditor` reads every database: set the AMENDS_…_DATABASE_URL of all services, or \
                        --database-url where one holds every schema";
            return Err(Usage(text.into()).into());
        };
        let options = Options {
            saga_grace: self.saga_grace,
            outbox_grace: self.outbox_grace,
            seal_grace: self.seal_grace,
            ..Options::default()
        };
        let schedule = Schedule { every: self.every, whole_every: self.whole_every };
        let auditor = Auditor::new(sources, options, schedule);
        let listeners = self.process.listen(50058, 51058).await?;
        let front = Front::begin(listeners.http)?;
        let checks = auditor.check(Checks::new());
        let services = Stop::new();
        services.spawn(auditor.run(services.clone()));
        let grpc = front.open(RoutesBuilder::default(), Vec::new(), checks, listeners.grpc.listen()?)?;
        host::ready(&[("grpc", grpc.to_string()), ("http", front.http.to_string())]);
        let worked = tokio::select! {
            biased;
            () = stops.stop.wanted() => Ok(()),
            reason = front.failed() => Err(anyhow!(reason)),
        };
        let closing = front.close(&services, Duration::ZERO, self.process.grace());
        host::close(closing, &stops.hurry).await;
        worked
    }
}
