//! The databases of services that have one each, as the command line names them.
//!
//! The variables are those of the services; which role a URL names is the command's business. Read next: `owner.rs`,
//! `cli/audit.rs` and `alone/auditor.rs`, which take them.

use chassis::config::Secret;
use clap::{ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};

use crate::{
    audit::{Room, Sources},
    host::Usage,
};

/// One URL for each schema that the auditor reads.
#[derive(Debug, Args)]
pub(crate) struct DatabaseUrls {
    /// The orchestrator's
    #[arg(long, env = "AMENDS_ORCHESTRATOR_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) orchestrator_database_url: Option<Secret>,
    /// order-svc's
    #[arg(long, env = "AMENDS_ORDER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) order_database_url: Option<Secret>,
    /// inventory-svc's
    #[arg(long, env = "AMENDS_INVENTORY_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) inventory_database_url: Option<Secret>,
    /// risk-svc's
    #[arg(long, env = "AMENDS_RISK_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) risk_database_url: Option<Secret>,
    /// payment-svc's
    #[arg(long, env = "AMENDS_PAYMENT_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) payment_database_url: Option<Secret>,
    /// The provider simulator's [default: payment-svc's]
    #[arg(long, env = "AMENDS_SIMULATOR_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) simulator_database_url: Option<Secret>,
    /// ledger-svc's
    #[arg(long, env = "AMENDS_LEDGER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) ledger_database_url: Option<Secret>,
}

/// Where the auditor reads.
#[derive(Debug, Args)]
pub(crate) struct ReadFrom {
    /// One database that holds every schema, and a role that may read them all
    #[arg(long, value_name = "URL", hide_env_values = true)]
    database_url: Option<Secret>,
    #[command(flatten)]
    urls: DatabaseUrls,
    /// notification-svc's: it is looked at for what must stand nowhere, and may be left out
    #[arg(long, env = "AMENDS_NOTIFICATION_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    notification_database_url: Option<Secret>,
}

impl ReadFrom {
    fn of(&self, room: Room) -> (Option<&Secret>, &'static str) {
        let urls = &self.urls;
        match room {
            Room::Orchestrator => (urls.orchestrator_database_url.as_ref(), "--orchestrator-database-url"),
            Room::Orders => (urls.order_database_url.as_ref(), "--order-database-url"),
            Room::Inventory => (urls.inventory_database_url.as_ref(), "--inventory-database-url"),
            Room::Risk => (urls.risk_database_url.as_ref(), "--risk-database-url"),
            Room::Payments => (urls.payment_database_url.as_ref(), "--payment-database-url"),
            Room::Simulator => {
                // As payment-svc finds it.
                let url = urls.simulator_database_url.as_ref().or(urls.payment_database_url.as_ref());
                (url, "--simulator-database-url")
            }
            Room::Ledger => (urls.ledger_database_url.as_ref(), "--ledger-database-url"),
        }
    }

    /// What was given; none when nothing was.
    ///
    /// # Errors
    /// When some are missing.
    pub(crate) fn sources(&self) -> Result<Option<Sources>, Usage> {
        if let Some(url) = &self.database_url {
            return Ok(Some(Sources::one(url.expose())));
        }
        let (given, missing): (Vec<_>, Vec<_>) =
            Room::ALL.map(|room| self.of(room)).into_iter().partition(|(url, _)| url.is_some());
        match (given.is_empty(), missing.is_empty()) {
            (true, _) => Ok(None),
            (false, true) => {
                let url = |room| self.of(room).0.map(|url| url.expose().to_owned());
                let sources = Sources::of(|room| url(room).unwrap_or_default());
                Ok(Some(match &self.notification_database_url {
                    Some(letters) => sources.with_letters(letters.expose().to_owned()),
                    None => sources,
                }))
            }
            (false, false) => {
                let missing: Vec<_> = missing.into_iter().map(|(_, flag)| flag).collect();
                Err(Usage(format!("databases are missing: give {} as well", missing.join(", "))))
            }
        }
    }
}

/// Which of two places stands on the command line itself, whatever the environment holds.
///
/// It adds no argument. It must be the first field of its command: those that follow take their values away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// Neither: what the environment says, or the default folder.
    Nothing,
    Folder,
    Databases,
    Both,
}

impl FromArgMatches for Named {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let on_the_line = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let folder = on_the_line("data_dir");
        let databases =
            matches.ids().map(clap::Id::as_str).any(|id| id.ends_with("database_url") && on_the_line(id));
        Ok(match (folder, databases) {
            (false, false) => Self::Nothing,
            (true, false) => Self::Folder,
            (false, true) => Self::Databases,
            (true, true) => Self::Both,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Named {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl Named {
    /// The databases to read, or none: then it is the folder.
    ///
    /// A folder on the command line goes before databases in the environment: whoever names one wants a verdict on it.
    ///
    /// # Errors
    /// When the command line names both, or some databases and not all.
    pub(crate) fn sources(self, databases: &ReadFrom) -> Result<Option<Sources>, Usage> {
        match self {
            Self::Both => Err(Usage(
                "--data-dir names a folder and --…-database-url databases: give one of the two".into(),
            )),
            Self::Folder => Ok(None),
            Self::Nothing | Self::Databases => databases.sources(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        from: ReadFrom,
    }

    fn sources(line: &str) -> Result<Option<Sources>, Usage> {
        Line::try_parse_from(line.split_whitespace()).unwrap().from.sources()
    }

    #[test]
    fn databases_are_given_all_or_none() {
        assert!(sources("x").unwrap().is_none());
        assert!(sources("x --database-url postgres://h/d").unwrap().is_some());
        let Err(Usage(text)) = sources("x --ledger-database-url postgres://h/l") else {
            panic!("one of seven is not enough");
        };
        assert!(text.contains("--risk-database-url") && !text.contains("--ledger-database-url"), "{text}");
    }
}
