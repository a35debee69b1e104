//! A private Redis that keeps nothing.
//!
//! It must never be taken for ready because another Redis answered on its port: the answer names a process id, and it
//! has to be that of our child. Read next: `services.rs`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;

use crate::account;
use crate::port;
use crate::service::{Service, command_as};
use crate::services::Launched;

pub(crate) fn launch(server: &Path, home: &Path) -> Result<Launched> {
    let begin = Instant::now();
    let [port] = port::free()?;
    let account = account::for_service(&["redis", "nobody"])?;
    let folder = home.join(format!("redis-{port}"));
    account::folder(&folder, account)?;

    let mut command = command_as(server, account, &folder, "TERM");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(&folder);
    let service = Service::start("Redis", command, Signal::TERM, home.join(format!("redis-{port}.log")))?;

    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Ok(Launched::new("Redis", begin, service, format!("redis://{address}/"), move |service| {
        server_pid(address).is_some_and(|pid| pid == service.pid())
    }))
}

fn server_pid(address: SocketAddr) -> Option<u32> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    stream.write_all(b"info server\r\nquit\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    reply.lines().find_map(|line| line.strip_prefix("process_id:"))?.trim().parse().ok()
}
