//! `cargo xtask stack`.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use e2e::{
    Collector,
    stack::{Member, Options, Ports},
};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Args)]
pub(crate) struct Stack {
    /// How many orchestrators share the sagas
    #[arg(long, default_value_t = 2, value_name = "N")]
    orchestrators: usize,
    /// Where the addresses are written, as `export` lines
    #[arg(long, value_name = "FILE", default_value = ".amends/stack.env")]
    environment_file: PathBuf,
    /// Where the spans of every trace are written, a line of JSON each
    #[arg(long, value_name = "FILE", default_value = ".amends/traces.jsonl")]
    traces: PathBuf,
    /// Leave the store empty, without the demo catalogue
    #[arg(long)]
    no_demo: bool,
    /// For `bench there`: no traces, no limits, and a provider that answers at once
    #[arg(long)]
    measured: bool,
    /// A setting of every process, as in AMENDS_AMQP_EVENTS=own; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not of the form NAME=VALUE")?;
    match name.starts_with("AMENDS_") {
        true => Ok((name.to_owned(), value.to_owned())),
        false => Err(format!("{name} is no setting of Amends: those begin with AMENDS_ (see .env.sample)")),
    }
}

/// What leaves nothing but the machine to limit it.
const UNLIMITED: [(&str, &str); 4] = [
    ("AMENDS_LOG", "warn"),
    ("AMENDS_MERCHANT_ORDERS_PER_SECOND", "0"),
    ("AMENDS_MAX_IN_FLIGHT", "200000"),
    ("AMENDS_SIMULATOR_LATENCY", "0s"),
];

impl Stack {
    pub(crate) async fn run(self) -> ExitCode {
        let mut interrupt = signal(SignalKind::interrupt()).unwrap();
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let mut asked = async move || {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        };
        let mut stack = tokio::select! {
            stack = self.start() => stack,
            () = asked() => return ExitCode::FAILURE,
        };
        self.tell(&stack);
        loop {
            tokio::select! {
                () = asked() => break,
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
            for (member, how) in stack.fallen() {
                eprintln!("{member} ended ({how}); starting it again");
                stack.restart(member).await;
                eprintln!("{member} serves again");
            }
        }
        eprintln!("stopping");
        let _ = std::fs::remove_file(&self.environment_file);
        stack.stop().await;
        ExitCode::SUCCESS
    }

    async fn start(&self) -> e2e::stack::Stack {
        std::fs::create_dir_all(self.traces.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&self.traces);
        let collector = Collector::start(&self.traces).await;
        let mut environment: Vec<(String, String)> = match self.measured {
            true => UNLIMITED.map(|(name, value)| (name.into(), value.into())).to_vec(),
            false => vec![("OTEL_EXPORTER_OTLP_ENDPOINT".into(), collector.endpoint())],
        };
        environment.extend_from_slice(&self.settings);
        let options = Options {
            orchestrators: self.orchestrators.max(1),
            ports: Ports::Documented,
            tail: true,
            environment,
            folder: e2e::process::folder("stack"),
        };
        let stack = e2e::stack::Stack::start(options).await;
        if !self.no_demo {
            let doors = stack.doors();
            amends::demo::fill_at(&doors.order, &doors.inventory).await.unwrap();
        }
        stack
    }

    /// Writes down where everything is, and says what to try.
    fn tell(&self, stack: &e2e::stack::Stack) {
        let mut lines = String::new();
        for member in stack.members() {
            let name = match member {
                Member::Orchestrator(1) => "AMENDS_SERVER".to_owned(),
                Member::Orchestrator(n) => format!("AMENDS_SERVER_{n}"),
                other => format!("AMENDS_{}_URL", other.service().to_uppercase()),
            };
            writeln!(lines, "export {name}='http://{}'", stack.address(member)).unwrap();
        }
        for (name, url) in stack.databases.for_the_auditor() {
            writeln!(lines, "export {name}='{url}'").unwrap();
        }
        let file = &self.environment_file;
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(file, lines).unwrap();
        for member in stack.members() {
            let pid = stack.process(member).id().unwrap_or_default();
            let (grpc, http) = (stack.address(member), stack.http(member));
            eprintln!(
                "{:<14} pid {pid:<8} gRPC {grpc:<16} health and metrics http://{http}",
                member.to_string()
            );
        }
        eprintln!(
            "ready; in another terminal:\n  cargo xtask demo                 four orders and their timelines\n  \
             . {}        then `amends order list`, `amends stock list`, `amends audit`, …\n\
             cargo xtask trace ord_…          its trace, process by process (from {})\n\
             `kill -9` any of them: it is started again. Ctrl-C stops all.",
            file.display(),
            self.traces.display()
        );
    }
}
