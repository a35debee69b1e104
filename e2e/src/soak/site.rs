//! Where a soak takes place: servers of its own, every service a process, and a proxy of its own in every link.
//!
//! Each process reaches its database, the broker and Redis through proxies that nobody else uses, each orchestrator
//! reaches each participant so, and customers reach the orchestrators so. Whoever breaks something holds its lock until it
//! is whole again, so that no two faults meet in one place; in different places they do.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use chassis::grpc;
use tokio::sync::Mutex;

use crate::{
    infra::Server,
    load,
    process::{Launch, Process},
    proxy::{Manner, Proxy},
    stack::{Databases, Member, Outfit},
};

/// Who calls, and whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Link {
    Database(Member),
    /// The provider's, from payment-svc.
    Book,
    Broker(Member),
    Redis(Member),
    /// From an orchestrator to a participant.
    Step(usize, Member),
    /// From the customers to an orchestrator.
    Door(usize),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(member) => write!(f, "{member} to its database"),
            Self::Book => f.write_str("payment to the provider's book"),
            Self::Broker(member) => write!(f, "{member} to the broker"),
            Self::Redis(member) => write!(f, "{member} to Redis"),
            Self::Step(n, member) => write!(f, "orchestrator-{n} to {member}"),
            Self::Door(n) => write!(f, "customers to orchestrator-{n}"),
        }
    }
}

/// Whom an orchestrator calls.
const PARTICIPANTS: [Member; 5] =
    [Member::Order, Member::Inventory, Member::Risk, Member::Payment, Member::Ledger];

/// A link, with the proxy in it.
pub(super) struct Wire {
    pub(super) proxy: Proxy,
    /// Held by whoever breaks it.
    pub(super) lock: Mutex<()>,
}

impl Wire {
    fn of(proxy: Proxy) -> Self {
        Self { proxy, lock: Mutex::default() }
    }
}

/// A process, with its place.
pub(super) struct Post {
    launch: Launch,
    starts: AtomicUsize,
    pub(super) grpc: String,
    pub(super) http: String,
    /// Says how far its clock is ahead.
    pub(super) clock: PathBuf,
    /// None while it is dead.
    pub(super) process: Mutex<Option<Process>>,
}

/// The site.
pub(super) struct Site {
    pub(super) databases: Databases,
    pub(super) postgres: Mutex<Server>,
    pub(super) broker: Mutex<Server>,
    pub(super) broker_url: String,
    pub(super) redis: Mutex<Server>,
    pub(super) wires: BTreeMap<Link, Wire>,
    pub(super) posts: BTreeMap<Member, Post>,
    folder: PathBuf,
    logs: PathBuf,
}

impl Site {
    /// Starts everything; what the processes say is written to a folder.
    pub(super) async fn start(orchestrators: usize, environment: &[(&str, &str)], logs: &Path) -> Self {
        let (postgres, broker, redis) = tokio::join!(Server::postgres(), Server::rabbit(), Server::redis());
        std::fs::create_dir_all(logs).unwrap();
        let mut site = Self {
            databases: Databases::create_on(&postgres.url()).await,
            broker_url: broker.url(),
            postgres: Mutex::new(postgres),
            broker: Mutex::new(broker),
            redis: Mutex::new(redis),
            wires: BTreeMap::new(),
            posts: BTreeMap::new(),
            folder: crate::process::folder("soak"),
            logs: logs.to_owned(),
        };
        site.open(&Member::SERVICES, environment).await;
        for n in 1..=orchestrators {
            for to in PARTICIPANTS {
                let proxy = Proxy::to(site.posts[&to].grpc.parse().unwrap()).await;
                site.wires.insert(Link::Step(n, to), Wire::of(proxy));
            }
        }
        let orchestrators: Vec<Member> = (1..=orchestrators).map(Member::Orchestrator).collect();
        site.open(&orchestrators, environment).await;
        for member in orchestrators {
            let Member::Orchestrator(n) = member else { unreachable!() };
            let proxy = Proxy::to(site.posts[&member].grpc.parse().unwrap()).await;
            site.wires.insert(Link::Door(n), Wire::of(proxy));
        }
        site
    }

    /// Starts these side by side.
    async fn open(&mut self, members: &[Member], environment: &[(&str, &str)]) {
        let mut starting = Vec::new();
        for member in members {
            let mut launch = self.wired(*member).await;
            launch.environment.extend(environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
            starting.push(async move {
                let process = Process::launch(&launch).await;
                (*member, launch, process.unwrap_or_else(|said| panic!("{member} does not start:\n{said}")))
            });
        }
        for (member, mut launch, process) in futures_util::future::join_all(starting).await {
            let (grpc, http) = (process.addresses["grpc"].clone(), process.addresses["http"].clone());
            for (flag, address) in [("--grpc-listen", &grpc), ("--http-listen", &http)] {
                let at = launch.arguments.iter().position(|argument| argument == flag).unwrap();
                launch.arguments[at + 1].clone_from(address);
            }
            let (clock, process) = (self.clock(member), Mutex::new(Some(process)));
            self.posts
                .insert(member, Post { launch, starts: AtomicUsize::new(1), grpc, http, clock, process });
        }
    }

    fn clock(&self, member: Member) -> PathBuf {
        self.folder.join(format!("{member}.clock"))
    }

    /// How a member is started, with a proxy in each of its links.
    async fn wired(&mut self, member: Member) -> Launch {
        let redis = self.redis.get_mut().url();
        let amqp = self.wire(Link::Broker(member), &self.broker_url.clone()).await;
        let redis = self.wire(Link::Redis(member), &redis).await;
        let outfit = Outfit { databases: &self.databases, amqp: &amqp, redis: &redis, folder: &self.folder };
        let Member::Orchestrator(n) = member else {
            let environment = outfit.of(member, |_| None);
            return self.launch(member, environment).await;
        };
        let steps: BTreeMap<Member, String> =
            PARTICIPANTS.map(|to| (to, self.wires[&Link::Step(n, to)].proxy.address.to_string())).into();
        let environment = outfit.of(member, |service| steps.get(&service).map(String::as_str));
        self.launch(member, environment).await
    }

    async fn launch(&mut self, member: Member, mut environment: Vec<(String, String)>) -> Launch {
        for (name, url) in self.databases.variables(member) {
            let link =
                if name == "AMENDS_SIMULATOR_DATABASE_URL" { Link::Book } else { Link::Database(member) };
            environment.push((name.to_owned(), self.wire(link, &url).await));
        }
        let clock = self.clock(member).display().to_string();
        let fixed = [member.service(), "--clock-file", &clock];
        let mut arguments = fixed.map(str::to_owned).to_vec();
        // The first keeps its id and takes its shards again at once; from the others they move by lease.
        if member == Member::Orchestrator(1) {
            let folder = self.folder.join(member.to_string()).display().to_string();
            arguments.extend(["--data-dir".to_owned(), folder]);
        }
        let listen = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
        arguments.extend(listen.map(str::to_owned));
        let log = Some(self.log(member, 0));
        Launch { arguments, environment, log, ..Launch::default() }
    }

    async fn wire(&mut self, link: Link, url: &str) -> String {
        let (proxy, url) = Proxy::in_front_of(url).await;
        self.wires.insert(link, Wire::of(proxy));
        url
    }

    /// Everybody.
    #[must_use]
    pub(super) fn members(&self) -> Vec<Member> {
        self.posts.keys().copied().collect()
    }

    /// How often the process that a member is now said that its clock has jumped.
    #[must_use]
    pub(super) fn jumps(&self, member: Member) -> usize {
        let n = self.posts[&member].starts.load(Ordering::Relaxed) - 1;
        let said = std::fs::read_to_string(self.log(member, n)).unwrap_or_default();
        said.matches("the clock has jumped").count()
    }

    fn log(&self, member: Member, start: usize) -> PathBuf {
        self.logs.join(format!("{member}.{start}.log"))
    }

    /// Starts a member that is dead, on the addresses it had; returns when it serves.
    pub(super) async fn revive(&self, member: Member) -> Process {
        let post = &self.posts[&member];
        let mut launch = post.launch.clone();
        let mut said = String::new();
        // A connection of somebody else's may have drawn the port, and what it needs may be broken just now.
        for _ in 0..20 {
            let n = post.starts.fetch_add(1, Ordering::Relaxed);
            launch.log = Some(self.log(member, n));
            match Process::launch(&launch).await {
                Ok(process) => return process,
                Err(reason) => said = reason,
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("{member} does not start again:\n{said}");
    }

    /// The doors that customers knock at: the orchestrators' through their proxies.
    #[must_use]
    pub(super) fn doors(&self) -> load::Doors {
        let callee = |address: &str| grpc::remote(&format!("http://{address}")).unwrap();
        let member = |member: Member| callee(&self.posts[&member].grpc);
        let is_door = |link: &Link| matches!(link, Link::Door(_));
        let doors = self.wires.iter().filter(|(link, _)| is_door(link));
        load::Doors {
            orchestrators: doors.map(|(_, wire)| callee(&wire.proxy.address.to_string())).collect(),
            order: member(Member::Order),
            inventory: member(Member::Inventory),
            risk: member(Member::Risk),
            ledger: member(Member::Ledger),
        }
    }

    /// Every link passes what is said.
    pub(super) fn mend(&self) {
        for wire in self.wires.values() {
            wire.proxy.set(Manner::Pass);
            wire.proxy.lose_answers(0);
        }
    }

    /// What a member counts.
    pub(super) async fn metrics(&self, member: Member) -> Option<String> {
        crate::house::get(&self.posts[&member].http, "/metrics").await.map(|(_, text)| text)
    }

    /// Stops all, those that call before those that are called.
    pub(super) async fn stop(self) {
        for post in self.posts.into_values().rev() {
            if let Some(process) = post.process.into_inner() {
                process.terminate().await;
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
