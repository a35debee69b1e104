//! `amends health`: asks a server process' `/readyz`, so that an image needs no other program to know its state.
//!
//! It starts no runtime and reads no other configuration: it runs every few seconds for as long as a container lives.
//! Read next: `chassis::http`, which answers.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use crate::cli::remark;

/// More than an answer of `/readyz` ever needs.
const LONGEST: u64 = 64 * 1024;

/// The command.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 ready, 1 not ready or no answer.

Examples:
  amends health
  amends health 127.0.0.1:51056")]
pub(crate) struct Health {
    /// Where the process serves HTTP; 0.0.0.0 and [::] mean this machine
    #[arg(env = "AMENDS_HTTP_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    address: SocketAddr,
    /// How long it may take
    #[arg(long, value_name = "TIME", default_value = "4s", value_parser = humantime::parse_duration)]
    patience: Duration,
}

impl Health {
    pub(crate) fn run(&self) -> ExitCode {
        let address = reachable(self.address);
        match ask(address, self.patience) {
            Ok((200, _)) => {
                remark("ready");
                ExitCode::SUCCESS
            }
            Ok((_, text)) => {
                remark(&format!("not ready: {}", text.trim().replace('\n', "; ")));
                ExitCode::FAILURE
            }
            Err(error) => {
                remark(&format!("error: {address} does not answer: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}

/// Where to ask a process that listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Status and body.
fn ask(address: SocketAddr, patience: Duration) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    // HTTP/1.0: the answer ends with the connection, and is never chunked. In one piece: whoever answers the first and hangs up
    // resets the connection when the rest comes.
    let request = format!("GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is no HTTP"))?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answered(answer: &'static str) -> io::Result<(u16, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let length = stream.read(&mut asked).unwrap();
            assert!(asked[..length].starts_with(b"GET /readyz HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let answer = ask(address, Duration::from_secs(5));
        server.join().unwrap();
        answer
    }

    #[test]
    fn what_readyz_says_is_the_state() {
        assert_eq!(answered("HTTP/1.0 200 OK\r\nx: y\r\n\r\nready\n").unwrap(), (200, "ready\n".into()));
        let (status, text) = answered("HTTP/1.1 503 Service Unavailable\r\n\r\ndatabase: gone\n").unwrap();
        assert_eq!((status, text.as_str()), (503, "database: gone\n"));
        assert!(answered("SSH-2.0").is_err());
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        for (listens, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
