//! One database and one role per service, on the server that is there.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr as _, time::Duration};

use amends::audit::{Room, Sources};
use chassis::{
    database::Schema,
    testbed::{self, variable},
};
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::Instant;

use super::Member;

/// The databases of a stack.
#[derive(Debug, Clone)]
pub struct Databases {
    prefix: String,
    /// Owner's URL by schema.
    owners: BTreeMap<&'static str, String>,
}

impl Databases {
    /// Makes and provisions them, on the server that all tests share.
    pub async fn create() -> Self {
        Self::create_on(&variable("AMENDS_TEST_POSTGRES_URL")).await
    }

    /// Makes and provisions them, on this server.
    pub async fn create_on(server: &str) -> Self {
        let prefix = format!("s{}", &chassis::clock::new_uuid().simple().to_string()[20..]);
        let options = PgConnectOptions::from_str(server).unwrap();
        let mut owners = BTreeMap::new();
        for schema in &amends::provision::schemas() {
            let name = format!("{prefix}_{}", schema.name);
            testbed::create(&options, &name, std::slice::from_ref(schema)).await.unwrap();
            owners.insert(schema.name, format!("{}/{name}", server.rsplit_once('/').unwrap().0));
        }
        Self { prefix, owners }
    }

    /// What the names of this stack begin with, on every server that it shares.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// As the owner of a schema's database.
    pub async fn connect(&self, schema: &Schema) -> PgConnection {
        let options = PgConnectOptions::from_str(&self.owners[schema.name]).unwrap();
        PgConnection::connect_with(&options).await.unwrap()
    }

    /// As the owner of a schema's database, if the server is there.
    ///
    /// # Errors
    /// What it said.
    pub async fn reach(&self, schema: &Schema) -> sqlx::Result<PgConnection> {
        PgConnection::connect(&self.owners[schema.name]).await
    }

    /// A service's own URL.
    #[must_use]
    pub fn url(&self, schema: &Schema) -> String {
        let rest = self.owners[schema.name].split_once('@').unwrap().1;
        format!("postgres://{}@{rest}", schema.role)
    }

    /// What a member is told.
    pub(crate) fn variables(&self, member: Member) -> Vec<(&'static str, String)> {
        match member {
            Member::Order => vec![("AMENDS_ORDER_DATABASE_URL", self.url(&order_svc::SCHEMA))],
            Member::Inventory => vec![("AMENDS_INVENTORY_DATABASE_URL", self.url(&inventory_svc::SCHEMA))],
            Member::Risk => vec![("AMENDS_RISK_DATABASE_URL", self.url(&risk_svc::SCHEMA))],
            Member::Payment => vec![
                ("AMENDS_PAYMENT_DATABASE_URL", self.url(&payment_svc::SCHEMA)),
                ("AMENDS_SIMULATOR_DATABASE_URL", self.url(&payment_svc::SIMULATOR_SCHEMA)),
            ],
            Member::Ledger => vec![("AMENDS_LEDGER_DATABASE_URL", self.url(&ledger_svc::SCHEMA))],
            Member::Notification => {
                vec![("AMENDS_NOTIFICATION_DATABASE_URL", self.url(&notification_svc::SCHEMA))]
            }
            Member::Orchestrator(_) => {
                vec![("AMENDS_ORCHESTRATOR_DATABASE_URL", self.url(&orchestrator::SCHEMA))]
            }
        }
    }

    /// The owner's URL of a schema's database.
    #[must_use]
    pub fn owner(&self, schema: &str) -> String {
        self.owners[schema].clone()
    }

    /// All of them as the auditor reads them: variable and URL.
    #[must_use]
    pub fn for_the_auditor(&self) -> Vec<(&'static str, String)> {
        let owner = |schema: &Schema| self.owners[schema.name].clone();
        vec![
            ("AMENDS_ORCHESTRATOR_DATABASE_URL", owner(&orchestrator::SCHEMA)),
            ("AMENDS_ORDER_DATABASE_URL", owner(&order_svc::SCHEMA)),
            ("AMENDS_INVENTORY_DATABASE_URL", owner(&inventory_svc::SCHEMA)),
            ("AMENDS_RISK_DATABASE_URL", owner(&risk_svc::SCHEMA)),
            ("AMENDS_PAYMENT_DATABASE_URL", owner(&payment_svc::SCHEMA)),
            ("AMENDS_SIMULATOR_DATABASE_URL", owner(&payment_svc::SIMULATOR_SCHEMA)),
            ("AMENDS_LEDGER_DATABASE_URL", owner(&ledger_svc::SCHEMA)),
            ("AMENDS_NOTIFICATION_DATABASE_URL", owner(&notification_svc::SCHEMA)),
        ]
    }

    /// Everything is still: the auditor finds nothing. What has just ended may have a message on its way, so it looks
    /// again for a while.
    pub(crate) async fn audit(
        &self,
        acknowledged: Option<PathBuf>,
        patience: Duration,
    ) -> Result<(), String> {
        let report = self.examine(acknowledged, patience).await?;
        if report.is_clean() { Ok(()) } else { Err(format!("{report:#?}")) }
    }

    /// The same; what it says in the end, whatever that is.
    pub(crate) async fn examine(
        &self,
        acknowledged: Option<PathBuf>,
        patience: Duration,
    ) -> Result<amends::audit::Report, String> {
        let sources = Sources::of(|room: Room| self.owners[room.schema()].clone())
            .with_letters(self.owners[notification_svc::SCHEMA.name].clone());
        let options = amends::audit::Options { quiescent: true, acknowledged, ..Default::default() };
        let until = Instant::now() + patience;
        loop {
            let report = amends::audit::run(&sources, &options).await.map_err(|error| error.to_string())?;
            if report.is_clean() || Instant::now() > until {
                return Ok(report);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
