//! A private RabbitMQ node with an epmd of its own.
//!
//! The packaged `/usr/sbin/rabbitmq-server` and `rabbitmqctl` are wrappers that change user and force the system's
//! folders, so they are never called; neither is the machine's epmd nor its Erlang cookie touched. epmd runs as our own
//! child in the foreground, because the one a node starts by itself outlives it. Read next: `services.rs`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::account::{self, Account};
use crate::machine::{self, RabbitBinaries};
use crate::port;
use crate::service::{Service, command_as};
use crate::services::Launched;

/// Without these a small or busy disk raises an alarm that silently blocks every publisher. The write-ahead log of
/// quorum queues is kept in memory up to its size, 512 MB by default, which is a lot for tests.
const CONFIG: &str = "\
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.relative = 0.6
raft.wal_max_size_bytes = 67108864
log.file.level = warning
";

/// A node that spins while idle takes the cores from the tests; and it must not listen outside 127.0.0.1.
const ERLANG: &str =
    "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1} -start_epmd false";

pub(crate) fn launch(binaries: &RabbitBinaries, home: &Path) -> Result<Launched> {
    let begin = Instant::now();
    let [port, node_port, epmd_port] = port::free()?;
    let account = account::for_service(&["rabbitmq", "nobody"])?;
    let folder = home.join(format!("rabbitmq-{port}"));
    prepare(&folder, account)?;

    let mut epmd = command_as(&binaries.epmd, account, &folder, "TERM");
    epmd.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
    let epmd = Service::start("epmd", epmd, Signal::TERM, home.join(format!("epmd-{epmd_port}.log")))?;

    // The node tells clients this name when they connect (with the host's name after it): so we know our own.
    let node = format!("amends-{}-{port}@", std::process::id());
    let mut command = command_as(&binaries.folder.join("rabbitmq-server"), account, &folder, "TERM");
    set_environment(&mut command, &folder);
    command
        .env("RABBITMQ_NODENAME", format!("{node}localhost"))
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", node_port.to_string())
        .env("ERL_EPMD_PORT", epmd_port.to_string());
    // KILL, not TERM: a node takes three seconds to put everything in order for a next start that never comes.
    let log = home.join(format!("rabbitmq-{port}.log"));
    let service = Service::start("RabbitMQ", command, Signal::KILL, log)?;

    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let launched =
        Launched::new("RabbitMQ", begin, service, format!("amqp://guest:guest@{address}/%2f"), move |_| {
            greeting(address)
                .is_some_and(|bytes| bytes.windows(node.len()).any(|part| part == node.as_bytes()))
        });
    Ok(launched.with_companion(epmd))
}

/// Nothing but what is said here: a `RABBITMQ_…` or `ERL_…` variable of the caller would change this node.
fn set_environment(command: &mut Command, folder: &Path) {
    command
        .env_clear()
        .env("PATH", machine::path())
        .env("LANG", "C.UTF-8")
        .env("HOME", folder)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG);
    for (variable, file) in [
        ("RABBITMQ_MNESIA_BASE", "mnesia"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_PID_FILE", "rabbit.pid"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq"),
        ("RABBITMQ_CONF_ENV_FILE", "none"),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
    ] {
        command.env(variable, folder.join(file));
    }
}

fn prepare(folder: &Path, account: Option<Account>) -> Result<()> {
    account::folder(folder, account)?;
    for (name, content, mode) in [
        ("rabbitmq.conf", CONFIG, 0o600),
        ("enabled_plugins", "[].\n", 0o600),
        // Erlang refuses a cookie that others may read. It guards a port on 127.0.0.1 of a node that lives for minutes.
        (".erlang.cookie", "AMENDSPRIVATENODE", 0o400),
    ] {
        let file = folder.join(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", file.display()))?;
        account::give(&file, account)?;
    }
    Ok(())
}

/// The broker's `Connection.Start`: it comes only once the node serves, and carries the cluster's name.
fn greeting(address: SocketAddr) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").ok()?;
    let mut bytes = vec![0; 4096];
    let length = stream.read(&mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}
