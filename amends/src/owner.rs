//! `amends provision`: makes the schemas of services that have databases of their own, or brings them up to date.
//!
//! For servers where the services' roles may not change their schemas: whoever owns the databases runs this before the
//! services of a new release start. It goes forward only and may be repeated; databases, and roles with passwords, are
//! the server's administrator's to make. Read next: `provision.rs`.

use chassis::{
    config::{self, Secret},
    database::Schema,
    telemetry,
};
use clap::Args;

use crate::{
    cli::remark,
    database_urls::DatabaseUrls,
    host::{Stops, Usage},
    provision,
};

/// The command.
#[derive(Debug, Args)]
#[command(
    after_help = "The variables are those of the services; here the URLs name the role that owns the database. Only what is \
given is provisioned.

Examples:
  amends provision --ledger-database-url postgres://amends_owner@db/ledger
  amends provision --payment-database-url postgres://amends_owner@db/payments --simulator-database-url postgres://amends_owner@db/simulator"
)]
pub(crate) struct Provision {
    #[command(flatten)]
    urls: DatabaseUrls,
    /// notification-svc's
    #[arg(long, env = "AMENDS_NOTIFICATION_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    notification_database_url: Option<Secret>,
    #[command(flatten)]
    log: config::Log,
}

impl Provision {
    pub(crate) fn telemetry(&self) -> telemetry::Options {
        self.log.options("amends-provision")
    }

    pub(crate) async fn run(self, stops: Stops) -> anyhow::Result<()> {
        let wanted = self.wanted();
        if wanted.is_empty() {
            let text = "no database is given: set the AMENDS_…_DATABASE_URL of a service, with the role that owns it";
            return Err(Usage(text.into()).into());
        }
        for (schema, url) in wanted {
            // Between two schemas is a good place to stop; what is left is done by the next run.
            anyhow::ensure!(!stops.stop.is_wanted(), "stopped before schema {}", schema.name);
            provision::as_owner(url.expose(), &schema).await?;
            let newest = schema.migrations.iter().map(|(version, ..)| *version).max().unwrap_or_default();
            remark(&format!("provisioned {} at version {newest} for {}", schema.name, schema.role));
        }
        Ok(())
    }

    fn wanted(&self) -> Vec<(Schema, &Secret)> {
        // Without a database of its own the simulator works on payment-svc's, as payment-svc.
        let guest = Schema { role: payment_svc::SCHEMA.role, ..payment_svc::SIMULATOR_SCHEMA };
        let (simulator, book) = match &self.urls.simulator_database_url {
            Some(url) => (payment_svc::SIMULATOR_SCHEMA, Some(url)),
            None => (guest, self.urls.payment_database_url.as_ref()),
        };
        [
            (orchestrator::SCHEMA, self.urls.orchestrator_database_url.as_ref()),
            (order_svc::SCHEMA, self.urls.order_database_url.as_ref()),
            (inventory_svc::SCHEMA, self.urls.inventory_database_url.as_ref()),
            (risk_svc::SCHEMA, self.urls.risk_database_url.as_ref()),
            (payment_svc::SCHEMA, self.urls.payment_database_url.as_ref()),
            (simulator, book),
            (ledger_svc::SCHEMA, self.urls.ledger_database_url.as_ref()),
            (notification_svc::SCHEMA, self.notification_database_url.as_ref()),
        ]
        .into_iter()
        .filter_map(|(schema, url)| Some((schema, url?)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        provision: Provision,
    }

    fn wanted(line: &str) -> Vec<(&'static str, &'static str)> {
        let provision = Line::try_parse_from(line.split_whitespace()).unwrap().provision;
        provision.wanted().into_iter().map(|(schema, _)| (schema.name, schema.role)).collect()
    }

    #[test]
    fn only_what_is_given_is_made_and_the_book_lies_where_payment_svc_looks_for_it() {
        assert_eq!(wanted("x"), []);
        assert_eq!(wanted("x --ledger-database-url postgres://h/l"), [("ledger", "amends_ledger")]);
        assert_eq!(
            wanted("x --payment-database-url postgres://h/p"),
            [("payments", "amends_payments"), ("simulator", "amends_payments")]
        );
        assert_eq!(
            wanted("x --payment-database-url postgres://h/p --simulator-database-url postgres://h/s"),
            [("payments", "amends_payments"), ("simulator", "amends_simulator")]
        );
    }
}
