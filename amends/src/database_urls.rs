//! The databases of services that have one each, as the command line names them.
//!
//! The variables are those of the services; which role a URL names is the command's business. Read next: `owner.rs` and
//! `cli/audit.rs`, which take them.

use chassis::config::Secret;
use clap::Args;

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
