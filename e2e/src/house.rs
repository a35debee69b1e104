//! The services as processes, with a proxy in front of everything that they stand on: what may be cut, refused or
//! swallowed, one by one.
//!
//! Each service reaches its database, the broker and Redis through proxies of this house. Read next: `proxy.rs`,
//! `infra.rs`.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use chassis::{
    grpc::{self, Callee},
    testbed::variable,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    process::{Launch, Process, folder},
    proxy::Proxy,
    soak::QUICK,
    stack::{Databases, Member, Outfit, sell},
    till::Client,
};

/// What a house stands on; the shared servers, unless others are named.
pub struct Ground {
    pub postgres: String,
    pub amqp: String,
    pub redis: String,
    /// More variables, for every process.
    pub environment: Vec<(&'static str, String)>,
}

impl Default for Ground {
    fn default() -> Self {
        Self {
            postgres: variable("AMENDS_TEST_POSTGRES_URL"),
            amqp: variable("AMENDS_TEST_AMQP_URL"),
            redis: variable("AMENDS_TEST_REDIS_URL"),
            environment: vec![("AMENDS_LEASE", "4s".into())],
        }
    }
}

/// A running house.
pub struct House {
    pub databases: Databases,
    ground: Ground,
    folder: PathBuf,
    /// In front of the database of each member.
    doors: BTreeMap<Member, (Arc<Proxy>, (&'static str, String))>,
    pub amqp: Proxy,
    amqp_url: String,
    pub redis: Proxy,
    redis_url: String,
    addresses: BTreeMap<Member, (String, String)>,
    processes: BTreeMap<Member, Process>,
}

impl House {
    /// The six services and this many orchestrators.
    pub async fn start(ground: Ground, orchestrators: usize) -> Self {
        let mut house = Self::empty(ground).await;
        for member in Member::SERVICES {
            house.open(member).await;
        }
        for n in 1..=orchestrators {
            house.open(Member::Orchestrator(n)).await;
        }
        house
    }

    /// Databases and proxies, and no process yet.
    pub async fn empty(ground: Ground) -> Self {
        let databases = Databases::create_on(&ground.postgres).await;
        let (amqp, amqp_url) = Proxy::in_front_of(&ground.amqp).await;
        let (redis, redis_url) = Proxy::in_front_of(&ground.redis).await;
        Self {
            databases,
            ground,
            folder: folder("house"),
            doors: BTreeMap::new(),
            amqp,
            amqp_url,
            redis,
            redis_url,
            addresses: BTreeMap::new(),
            processes: BTreeMap::new(),
        }
    }

    /// Starts a member, on the address it had; waits until it serves.
    pub async fn open(&mut self, member: Member) {
        let launch = self.launch(member).await;
        let mut said = String::new();
        for _ in 0..10 {
            match Process::launch(&launch).await {
                Ok(process) => {
                    let at = |name: &str| process.addresses[name].clone();
                    self.addresses.insert(member, (at("grpc"), at("http")));
                    self.processes.insert(member, process);
                    return;
                }
                Err(reason) => said = reason,
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        panic!("{member} does not start:\n{said}");
    }

    /// How a member is started. Its proxy is there from now on.
    pub async fn launch(&mut self, member: Member) -> Launch {
        if !self.doors.contains_key(&member) {
            // The first is the member's own; the provider's book is not taken down with payment-svc's.
            let (name, url) = self.databases.variables(member).remove(0);
            let (proxy, url) = Proxy::in_front_of(&url).await;
            self.doors.insert(member, (Arc::new(proxy), (name, url)));
        }
        let (grpc, http) = self
            .addresses
            .get(&member)
            .cloned()
            .unwrap_or_else(|| ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()));
        let (amqp, redis) = (self.amqp_url.as_str(), self.redis_url.as_str());
        let outfit = Outfit { databases: &self.databases, amqp, redis, folder: &self.folder };
        let mut environment = outfit.of(member, |service| Some(self.addresses.get(&service)?.0.as_str()));
        let own = &self.doors[&member].1;
        let quick = QUICK.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let more = quick.chain([own.clone()]).chain(self.ground.environment.iter().cloned());
        environment.extend(more.map(|(name, value)| (name.to_owned(), value)));
        let arguments: Vec<String> =
            [member.service(), "--grpc-listen", &grpc, "--http-listen", &http].map(str::to_owned).to_vec();
        let label = std::env::var("AMENDS_TEST_VERBOSE").ok().map(|_| format!("{:<14}", member.to_string()));
        Launch { arguments, environment, label, ..Launch::default() }
    }

    /// The proxy in front of a member's database.
    #[must_use]
    pub fn database(&self, member: Member) -> Arc<Proxy> {
        Arc::clone(&self.doors[&member].0)
    }

    /// Where a member serves gRPC.
    #[must_use]
    pub fn address(&self, member: Member) -> &str {
        &self.addresses[&member].0
    }

    /// A member, over the network.
    #[must_use]
    pub fn callee(&self, member: Member) -> Callee {
        grpc::remote(&format!("http://{}", self.address(member))).unwrap()
    }

    /// Goods with a price.
    pub async fn stock_up(&self) {
        let doors = (self.callee(Member::Order), self.callee(Member::Inventory));
        sell(&doors, "P1001", 1000, 1_000_000).await;
    }

    /// A client of every orchestrator that was ever opened.
    #[must_use]
    pub fn client(&self) -> Client {
        let orchestrators = self.addresses.keys().filter(|member| matches!(member, Member::Orchestrator(_)));
        Client::of(orchestrators.map(|member| self.callee(*member)).collect())
    }

    /// `kill -9`.
    pub async fn kill(&mut self, member: Member) {
        self.processes.remove(&member).expect("it runs").kill().await;
    }

    /// SIGTERM, and its end; its exit code.
    pub async fn terminate(&mut self, member: Member) -> Option<i32> {
        self.processes.remove(&member).expect("it runs").terminate().await
    }

    /// What a member says about its readiness, by HTTP: the status and the text.
    pub async fn ready(&self, member: Member) -> Option<(u16, String)> {
        get(&self.addresses[&member].1, "/readyz").await
    }

    /// What a member counts.
    pub async fn metrics(&self, member: Member) -> Option<String> {
        get(&self.addresses[&member].1, "/metrics").await.map(|(_, text)| text)
    }

    /// Everything is still: the auditor finds nothing.
    pub async fn audit(&self) {
        if let Err(report) = self.databases.audit(None, Duration::from_secs(60)).await {
            panic!("{report}");
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Asks by HTTP; none when nobody answers within two seconds.
pub async fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    };
    tokio::time::timeout(Duration::from_secs(2), asked).await.ok()?
}
