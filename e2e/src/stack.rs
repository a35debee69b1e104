//! The stack as its users run it: every service a process of its own, over real Postgres, RabbitMQ and Redis.
//!
//! One database and one role per service; any number of orchestrators. Each process can be killed, stopped, woken and
//! started again on the address it had. Read next: `stack/databases.rs`, then `soak.rs`, which is unkind to the like of it.

mod databases;
mod outfit;

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use chassis::{grpc, grpc::Callee, testbed::variable};

pub use databases::Databases;
pub(crate) use outfit::Outfit;
use proto::{
    inventory::v1::{RestockRequest, inventory_client::InventoryClient},
    money::Money,
    order::v1::{SetPriceRequest, catalog_client::CatalogClient},
};

use crate::{
    load,
    process::{Launch, PROGRAM, Process},
};

/// A process of the stack. In the order in which they start; they stop in the reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Member {
    Order,
    Inventory,
    Risk,
    Payment,
    Ledger,
    Notification,
    /// From 1.
    Orchestrator(usize),
}

impl Member {
    /// The participants, and who listens.
    pub const SERVICES: [Self; 6] =
        [Self::Order, Self::Inventory, Self::Risk, Self::Payment, Self::Ledger, Self::Notification];

    /// The subcommand of `amends`.
    #[must_use]
    pub const fn service(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Risk => "risk",
            Self::Payment => "payment",
            Self::Ledger => "ledger",
            Self::Notification => "notification",
            Self::Orchestrator(_) => "orchestrator",
        }
    }

    /// The gRPC port that the documents name.
    const fn documented_port(self) -> u16 {
        match self {
            Self::Orchestrator(1) => 50_051,
            Self::Order => 50_052,
            Self::Inventory => 50_053,
            Self::Risk => 50_054,
            Self::Payment => 50_055,
            Self::Ledger => 50_056,
            Self::Notification => 50_057,
            // 50061, 50062, …
            Self::Orchestrator(n) => 50_059 + (n % 100) as u16,
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orchestrator(n) => write!(f, "orchestrator-{n}"),
            other => f.write_str(other.service()),
        }
    }
}

/// Where the processes listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Wherever something is free.
    Any,
    /// Where the documents say; a taken one is replaced by a free one.
    Documented,
}

/// How a stack is started.
#[derive(Debug, Clone)]
pub struct Options {
    pub orchestrators: usize,
    pub ports: Ports,
    /// Shows every line that a process says.
    pub tail: bool,
    /// More variables for every process.
    pub environment: Vec<(String, String)>,
    /// For what must survive a restart: ids, letters.
    pub folder: PathBuf,
}

/// A process with its place in the stack.
struct Place {
    launch: Launch,
    addresses: Option<(String, String)>,
    process: Option<Process>,
}

/// A running stack.
pub struct Stack {
    pub databases: Databases,
    options: Options,
    obeys: bool,
    places: BTreeMap<Member, Place>,
}

impl Stack {
    /// Starts everything; returns when everything serves.
    pub async fn start(options: Options) -> Self {
        Self::start_that(options, false).await
    }

    /// The same, and each process may be told to die at a crash point.
    pub(crate) async fn start_obeying(options: Options) -> Self {
        Self::start_that(options, true).await
    }

    async fn start_that(options: Options, obeys: bool) -> Self {
        let databases = Databases::create().await;
        let mut stack = Self { databases, options, obeys, places: BTreeMap::new() };
        // Side by side: each waits for databases and broker only.
        let mut starting = Vec::new();
        for member in Member::SERVICES {
            let launch = stack.launch(member);
            starting.push(async move { (member, started(member, launch).await) });
        }
        for (member, place) in futures_util::future::join_all(starting).await {
            stack.places.insert(member, place);
        }
        for n in 1..=stack.options.orchestrators {
            stack.add_orchestrator(n, &[]).await;
        }
        stack
    }

    /// One more orchestrator, with variables of its own.
    pub async fn add_orchestrator(&mut self, n: usize, more: &[(&str, &str)]) {
        let member = Member::Orchestrator(n);
        let mut launch = self.launch(member);
        launch.environment.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let place = started(member, launch).await;
        self.places.insert(member, place);
    }

    /// Forgets a member that was killed or terminated: it never comes back.
    pub fn forget(&mut self, member: Member) {
        self.places.remove(&member);
    }

    fn launch(&self, member: Member) -> Launch {
        let (amqp, redis) = (variable("AMENDS_TEST_AMQP_URL"), variable("AMENDS_TEST_REDIS_URL"));
        let folder = self.options.folder.as_path();
        let outfit = Outfit { databases: &self.databases, amqp: &amqp, redis: &redis, folder };
        let mut environment = outfit.of(member, |service| Some(self.address(service)));
        environment.extend(self.options.environment.iter().cloned());
        let (grpc, http) = listen(member, self.options.ports);
        let mut arguments = vec![member.service().to_owned()];
        // The first keeps its id and takes its shards again at once; from the others they move by lease.
        if member == Member::Orchestrator(1) {
            arguments
                .extend(["--data-dir".to_owned(), folder.join(member.to_string()).display().to_string()]);
        }
        arguments.extend(["--grpc-listen".into(), grpc, "--http-listen".into(), http]);
        if self.obeys {
            arguments.extend(["--crash-at".into(), "0".into()]);
        }
        let label = self.options.tail.then(|| format!("{:<14}", member.to_string()));
        let log = Some(folder.join(format!("{member}.log")));
        Launch { arguments, environment, label, log, obeys: self.obeys }
    }

    /// Everybody, in the order of starting.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.places.keys().copied().collect()
    }

    /// Where a member serves gRPC.
    #[must_use]
    pub fn address(&self, member: Member) -> &str {
        &self.places[&member].addresses.as_ref().unwrap().0
    }

    /// Where a member shows health and metrics.
    #[must_use]
    pub fn http(&self, member: Member) -> &str {
        &self.places[&member].addresses.as_ref().unwrap().1
    }

    /// A member, over the network.
    #[must_use]
    pub fn callee(&self, member: Member) -> Callee {
        grpc::remote(&format!("http://{}", self.address(member))).unwrap()
    }

    /// The doors that a load knocks at.
    #[must_use]
    pub fn doors(&self) -> load::Doors {
        let orchestrators = self.places.keys().filter(|member| matches!(member, Member::Orchestrator(_)));
        load::Doors {
            orchestrators: orchestrators.map(|member| self.callee(*member)).collect(),
            order: self.callee(Member::Order),
            inventory: self.callee(Member::Inventory),
            risk: self.callee(Member::Risk),
            ledger: self.callee(Member::Ledger),
        }
    }

    /// The process of a member that runs.
    #[must_use]
    pub fn process(&self, member: Member) -> &Process {
        self.places[&member].process.as_ref().expect("it runs")
    }

    /// `kill -9`.
    pub async fn kill(&mut self, member: Member) {
        self.take(member).kill().await;
    }

    /// SIGTERM, and its end; its exit code.
    pub async fn terminate(&mut self, member: Member) -> Option<i32> {
        self.take(member).terminate().await
    }

    /// Gives back what was taken.
    pub(crate) fn give(&mut self, member: Member, process: Process) {
        self.places.get_mut(&member).unwrap().process = Some(process);
    }

    /// Takes a process out of the stack, to watch over it, or to end it.
    pub(crate) fn take(&mut self, member: Member) -> Process {
        self.places.get_mut(&member).unwrap().process.take().expect("it runs")
    }

    /// Starts a member again, on the address it had.
    pub async fn restart(&mut self, member: Member) {
        let place = self.places.get_mut(&member).unwrap();
        // A connection of somebody else's may have drawn the port for the moment that nobody listened on it.
        let mut said = String::new();
        for _ in 0..20 {
            match Process::launch(&place.launch).await {
                Ok(process) => {
                    place.process = Some(process);
                    return;
                }
                Err(reason) => said = reason,
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("{member} does not start again:\n{said}");
    }

    /// Ends a member in order and starts it again, as it is rolled out: from here on it is this program.
    ///
    /// # Panics
    /// When it does not stop in order.
    pub async fn roll(&mut self, member: Member, program: &str) {
        assert_eq!(self.terminate(member).await, Some(0), "{member} stops in order");
        let place = self.places.get_mut(&member).unwrap();
        place.launch.environment.push((PROGRAM.to_owned(), program.to_owned()));
        self.restart(member).await;
    }

    /// Two goods, a thousand of each: P1001 at 10.00 EUR, and P2001 at 9,000.00 EUR, which with its tax wants a review.
    pub async fn furnish(&self) {
        let doors = (self.callee(Member::Order), self.callee(Member::Inventory));
        for (sku, minor_units) in [("P1001", 1000), ("P2001", 900_000)] {
            sell(&doors, sku, minor_units, 1000).await;
        }
    }

    /// Those that ended by themselves, and how.
    pub fn fallen(&mut self) -> Vec<(Member, String)> {
        let mut fallen = Vec::new();
        for (member, place) in &mut self.places {
            if let Some(how) = place.process.as_mut().and_then(Process::ended) {
                place.process = None;
                fallen.push((*member, how));
            }
        }
        fallen
    }

    /// Stops all, those that call before those that are called.
    pub async fn stop(mut self) {
        for place in std::mem::take(&mut self.places).into_values().rev() {
            if let Some(process) = place.process {
                process.terminate().await;
            }
        }
    }

    /// Everything is still: the auditor finds nothing, with the record of a client.
    ///
    /// # Errors
    /// The report, when it still finds something after a minute.
    pub async fn audit(&self, acknowledged: Option<PathBuf>) -> Result<(), String> {
        self.databases.audit(acknowledged, Duration::from_secs(60)).await
    }
}

async fn started(member: Member, mut launch: Launch) -> Place {
    let process =
        Process::launch(&launch).await.unwrap_or_else(|said| panic!("{member} does not start:\n{said}"));
    let (grpc, http) = (process.addresses["grpc"].clone(), process.addresses["http"].clone());
    for (flag, address) in [("--grpc-listen", &grpc), ("--http-listen", &http)] {
        let at = launch.arguments.iter().position(|argument| argument == flag).unwrap();
        launch.arguments[at + 1].clone_from(address);
    }
    Place { launch, addresses: Some((grpc, http)), process: Some(process) }
}

fn listen(member: Member, ports: Ports) -> (String, String) {
    let free = |port: u16| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let port = if TcpListener::bind(address).is_ok() { port } else { 0 };
        format!("127.0.0.1:{port}")
    };
    match ports {
        Ports::Any => ("127.0.0.1:0".into(), "127.0.0.1:0".into()),
        Ports::Documented => (free(member.documented_port()), free(member.documented_port() + 1000)),
    }
}

/// Puts a good on sale: its price in EUR, and this much of it. May be done again. `doors`: order-svc's and inventory-svc's.
pub(crate) async fn sell(doors: &(Callee, Callee), sku: &str, minor_units: i64, quantity: i64) {
    let unit_price = Some(Money { minor_units, currency_code: "EUR".into() });
    let price = SetPriceRequest { sku: sku.into(), title: sku.into(), unit_price };
    CatalogClient::new(doors.0.clone()).set_price(price).await.unwrap();
    let restock = RestockRequest { request_id: format!("first-{sku}"), sku: sku.into(), quantity };
    InventoryClient::new(doors.1.clone()).restock(restock).await.unwrap();
}
