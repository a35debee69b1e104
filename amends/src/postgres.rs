//! `amends postgres`: the private cluster alone, in the foreground.
//!
//! For running single services by hand, and for looking into the data of a stopped `amends up`. Read next:
//! `cluster.rs`.

use std::path::PathBuf;

use chassis::{config, telemetry};
use clap::Args;

use crate::{
    cli::remark,
    cluster::{Cluster, Options},
    data_dir::DataDir,
    host::{self, Stops},
    provision::{self, Databases},
};

/// Where a cluster is and what runs it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// Folder of the private Postgres and of what must survive a restart
    #[arg(long, env = "AMENDS_DATA_DIR", value_name = "FOLDER", default_value = ".amends")]
    pub(crate) data_dir: PathBuf,
    /// Folder with Postgres' `initdb` and `pg_ctl`, 15 or newer [default: pg_config's, or the newest installed]
    #[arg(long, env = "AMENDS_POSTGRES_BIN", value_name = "FOLDER")]
    pub(crate) postgres_bin: Option<PathBuf>,
}

impl Place {
    /// Takes the folder and starts its cluster.
    pub(crate) async fn open(&self) -> anyhow::Result<(DataDir, Cluster)> {
        let data = DataDir::lock(&self.data_dir)?;
        let options = Options { data_dir: data.path().to_owned(), binaries: self.postgres_bin.clone() };
        let cluster = host::blocking(move || Cluster::start(&options)).await??;
        if cluster.was_running() {
            tracing::info!(port = cluster.port(), "found Postgres running; it is used again");
        }
        Ok((data, cluster))
    }
}

/// The command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  amends postgres --data-dir /var/lib/amends
  amends postgres --provision")]
pub(crate) struct Postgres {
    #[command(flatten)]
    place: Place,
    /// Make the database of every service, and print the variables that single services need
    #[arg(long)]
    provision: bool,
    #[command(flatten)]
    log: config::Log,
}

impl Postgres {
    pub(crate) fn telemetry(&self) -> telemetry::Options {
        self.log.options("amends-postgres")
    }

    pub(crate) async fn run(self, stops: Stops) -> anyhow::Result<()> {
        let (_data, cluster) = self.place.open().await?;
        let served = self.serve(&cluster, &stops).await;
        let stopped = host::blocking(move || cluster.stop()).await?;
        served?;
        Ok(stopped?)
    }

    async fn serve(&self, cluster: &Cluster, stops: &Stops) -> anyhow::Result<()> {
        if self.provision {
            variables(&provision::embedded(cluster).await?).iter().for_each(|line| remark(line));
        }
        host::ready(&[("postgres", cluster.tcp_url("postgres", "postgres"))]);
        stops.stop.wanted().await;
        Ok(())
    }
}

fn variables(databases: &Databases) -> [String; 8] {
    [
        format!("AMENDS_ORCHESTRATOR_DATABASE_URL={}", databases.orchestrator),
        format!("AMENDS_ORDER_DATABASE_URL={}", databases.order),
        format!("AMENDS_INVENTORY_DATABASE_URL={}", databases.inventory),
        format!("AMENDS_RISK_DATABASE_URL={}", databases.risk),
        format!("AMENDS_PAYMENT_DATABASE_URL={}", databases.payment),
        format!("AMENDS_SIMULATOR_DATABASE_URL={}", databases.simulator),
        format!("AMENDS_LEDGER_DATABASE_URL={}", databases.ledger),
        format!("AMENDS_NOTIFICATION_DATABASE_URL={}", databases.notification),
    ]
}
