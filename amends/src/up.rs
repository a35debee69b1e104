//! `amends up`: everything in one process on this machine, over a private Postgres.
//!
//! Ports first, then the folder, then the cluster, then the services: what fails early costs nothing. It ends in the
//! opposite order, and whatever kills it in between is mended by the next start. Read next: `stack.rs`, `demo.rs`.

use std::{fs, time::Duration};

use anyhow::{Context as _, anyhow};
use chassis::{config::Secret, telemetry};
use clap::Args;

use crate::{
    audit::{self, Sources},
    auditor::{Auditor, Schedule},
    cli::remark,
    cluster::Cluster,
    data_dir::DataDir,
    demo,
    host::{self, Stops},
    postgres::Place,
    process::{Listeners, Process},
    provision::{self, Databases},
    stack::{Options, Settings, Stack},
    token_keys::TokenKeys,
};

/// gRPC and HTTP.
const PORTS: (u16, u16) = (50051, 8080);
/// How often everything is audited, and not only what came since.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the cluster is looked at.
const PULSE: Duration = Duration::from_secs(1);

/// The command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  amends up
  amends up --data-dir /var/lib/amends --grpc-listen 0.0.0.0:50051
  amends up --amqp-url amqp://127.0.0.1:5672 --redis-url redis://127.0.0.1:6379")]
pub(crate) struct Up {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    process: Process,
    /// One database that holds every schema, on a server that is there already, instead of a private Postgres: its
    /// owner's URL, without a password. For many side by side, as in `cargo xtask crash`
    #[arg(long, value_name = "URL", hide = true)]
    database_url: Option<Secret>,
    /// Leave an empty store empty, without the demo catalogue
    #[arg(long, env = "AMENDS_NO_DEMO")]
    no_demo: bool,
    /// How often everything is audited while it runs; what is found is an error in the log, and a metric
    #[arg(long, env = "AMENDS_AUDIT_EVERY", value_name = "TIME", default_value = "5m",
        value_parser = humantime::parse_duration)]
    audit_every: Duration,
    /// Leave auditing to `amends audit`
    #[arg(long, env = "AMENDS_NO_AUDIT")]
    no_audit: bool,
    #[command(flatten)]
    token_keys: TokenKeys,
    #[command(flatten)]
    settings: Settings,
}

impl Up {
    pub(crate) fn telemetry(&self) -> telemetry::Options {
        self.process.telemetry("amends")
    }

    pub(crate) async fn run(self, stops: Stops) -> anyhow::Result<()> {
        let listeners = self.process.listen(PORTS.0, PORTS.1).await?;
        if let Some(url) = self.database_url.clone() {
            let data = DataDir::lock(&self.place.data_dir)?;
            let databases = provision::given(url.expose()).await.context("--database-url cannot be used")?;
            let judged = url.expose().to_owned();
            return self.serve(&data, (databases, judged), None, listeners, &stops).await;
        }
        let (data, cluster) = self.place.open().await?;
        let served = if stops.stop.is_wanted() {
            Ok(())
        } else {
            match provision::embedded(&cluster).await.context("the private Postgres cannot be made ready") {
                Ok(databases) => {
                    let judged = cluster.url("postgres", provision::DATABASE);
                    self.serve(&data, (databases, judged), Some(&cluster), listeners, &stops).await
                }
                Err(error) => Err(error),
            }
        };
        let stopped = host::blocking(move || cluster.stop()).await?;
        served?;
        Ok(stopped?)
    }

    async fn serve(
        self,
        data: &DataDir,
        (databases, judged): (Databases, String),
        cluster: Option<&Cluster>,
        listeners: Listeners,
        stops: &Stops,
    ) -> anyhow::Result<()> {
        let options = Options {
            databases,
            pools: self.process.pools(),
            bus: self.process.bus(),
            cache: self.process.cache(),
            grpc: listeners.grpc.listen()?,
            http: listeners.http,
            settings: letters_in(data, self.settings),
            keys: self.token_keys.or_kept(data)?,
            instance: data.instance()?,
            give_up: stops.stop.clone(),
        };
        let stack = match Stack::start(options).await {
            Ok(stack) => stack,
            Err(_) if stops.stop.is_wanted() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !self.no_audit {
            let schedule = Schedule { every: self.audit_every, whole_every: DAY };
            let sources = Sources::one(&judged);
            let auditor = Auditor::new(sources, audit::Options::default(), schedule);
            stops.stop.spawn(auditor.run(stops.stop.clone()));
        }
        if let Some(cluster) = cluster {
            stops.stop.spawn(keep_alive(cluster.clone(), stops.clone()));
        }
        let worked = tokio::select! {
            // Nothing is refused to start that is asked to stop: first look at the wish.
            biased;
            () = stops.stop.wanted() => Ok(()),
            reason = stack.failed() => Err(anyhow!(reason)),
            worked = work(&stack, data, cluster, self.no_demo) => worked,
        };
        stops.stop.request();
        host::close(stack.stop(self.process.grace()), &stops.hurry).await;
        stops.stop.finish(self.process.grace()).await;
        worked
    }
}

/// Opens the house, and then never returns.
async fn work(stack: &Stack, data: &DataDir, cluster: Option<&Cluster>, no_demo: bool) -> anyhow::Result<()> {
    stack.driving().await;
    if !no_demo {
        furnish(stack, data).await.context("the demo catalogue cannot be made (--no-demo leaves it out)")?;
    }
    let mut addresses = vec![("grpc", stack.grpc.to_string()), ("http", stack.http.to_string())];
    addresses.extend(cluster.map(|cluster| ("postgres", cluster.tcp_url("postgres", "amends"))));
    host::ready(&addresses);
    remark(&invitation(stack));
    std::future::pending().await
}

/// With letters in the data folder, like everything else, unless another folder was named.
fn letters_in(data: &DataDir, mut settings: Settings) -> Settings {
    let folder = &mut settings.notification.notification_outbox_dir;
    if *folder == notification_svc::Settings::default().notification_outbox_dir {
        *folder = data.path().join("outbox");
    }
    settings
}

/// Fills an empty store. The mark stays while the filling is not done: a filling that was cut off is done again,
/// because its requests may be repeated, and a store that somebody else filled is left alone.
async fn furnish(stack: &Stack, data: &DataDir) -> anyhow::Result<()> {
    let mark = data.path().join("demo-begun");
    let services = stack.services();
    if !mark.exists() && !demo::is_wanted(&services).await? {
        return Ok(());
    }
    fs::write(&mark, "")?;
    demo::fill(&services).await?;
    fs::remove_file(&mark)?;
    Ok(())
}

/// Starts the server again when it died: the services wait for it meanwhile.
async fn keep_alive(cluster: Cluster, stops: Stops) {
    while stops.stop.sleep(PULSE).await {
        if cluster.is_running() {
            continue;
        }
        tracing::error!("Postgres is gone; starting it again");
        let again = cluster.clone();
        match host::blocking(move || again.revive()).await {
            Ok(Ok(())) => tracing::info!("Postgres is back"),
            Ok(Err(error)) => tracing::error!(error = format!("{error:#}"), "Postgres does not start"),
            Err(error) => tracing::error!(error = format!("{error:#}"), "Postgres was not started"),
        }
    }
}

/// What to try first.
fn invitation(stack: &Stack) -> String {
    let address = stack.grpc;
    let server =
        if address.port() == PORTS.0 { String::new() } else { format!(" --server http://{address}") };
    format!(
        "\nTry:\n  \
         amends order create P1001:2 --customer c_1 --merchant m_1 --currency EUR --card tok_approve --wait 10s{server}\n  \
         amends order create P1002 --customer c_1 --merchant m_1 --currency EUR --card tok_decline --wait 10s{server}\n  \
         grpcurl -plaintext -d '{{\"request_id\":\"first\",\"customer_id\":\"c_1\",\"merchant_id\":\"m_1\",\
         \"currency_code\":\"JPY\",\"lines\":[{{\"sku\":\"P1003\",\"quantity\":1}}],\
         \"payment\":{{\"card\":{{\"token\":\"tok_approve\"}}}},\"wait\":\"10s\"}}' {address} \
         amends.order.v1.Orders/CreateOrder"
    )
}
