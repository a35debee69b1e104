//! A small but real mail server: RFC 5321 over TCP, as far as a client needs it, and able to say no.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use chassis::stop::Stop;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// What it says to a recipient.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    NotNow,
    Never,
    /// It wants nothing from us, whoever it is for.
    Blocked,
    /// None at all; the connection stays open.
    Silence,
    /// The recipient is welcome, but the text is not taken.
    TextNotNow,
}

/// What it was given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mail {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) data: String,
}

#[derive(Default)]
struct Inner {
    answers: Mutex<VecDeque<Answer>>,
    mails: Mutex<Vec<Mail>>,
    hangs_up: AtomicBool,
    knocks: AtomicUsize,
}

impl Inner {
    fn next_answer(&self) -> Option<Answer> {
        self.answers.lock().unwrap().pop_front()
    }
}

pub(crate) struct MailServer {
    address: SocketAddr,
    inner: Arc<Inner>,
    stop: Stop,
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.stop.request();
    }
}

impl MailServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server =
            Self { address: listener.local_addr().unwrap(), inner: Arc::default(), stop: Stop::new() };
        let (inner, stop) = (Arc::clone(&server.inner), server.stop.clone());
        server.stop.spawn(async move {
            loop {
                let client = tokio::select! {
                    client = listener.accept() => client.unwrap().0,
                    () = stop.wanted() => return,
                };
                inner.knocks.fetch_add(1, Ordering::SeqCst);
                if !inner.hangs_up.load(Ordering::SeqCst) {
                    let (inner, stopping) = (Arc::clone(&inner), stop.clone());
                    stop.spawn(async move {
                        tokio::select! {
                            _ = converse(client, &inner) => {}
                            () = stopping.wanted() => {}
                        }
                    });
                }
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// To the next recipients; to those after them it says yes.
    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.inner.answers.lock().unwrap().extend(answers);
    }

    /// On whoever comes, from now on, or no longer.
    pub(crate) fn hang_up(&self, hang_up: bool) {
        self.inner.hangs_up.store(hang_up, Ordering::SeqCst);
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.inner.mails.lock().unwrap().clone()
    }

    pub(crate) fn knocks(&self) -> usize {
        self.inner.knocks.load(Ordering::SeqCst)
    }
}

async fn converse(client: TcpStream, inner: &Inner) -> std::io::Result<()> {
    let (read, mut write) = client.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut mail = Mail::default();
    let mut takes_text = true;
    write.write_all(b"220 test ESMTP\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let reply = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => "250-test\r\n250 8BITMIME\r\n",
            "HELO" | "NOOP" => "250 test\r\n",
            "RSET" => {
                mail = Mail::default();
                "250 forgotten\r\n"
            }
            "MAIL" => {
                mail = Mail { from: address(rest), ..Mail::default() };
                "250 sender taken\r\n"
            }
            "RCPT" if mail.from.is_empty() => "503 MAIL comes first\r\n",
            "RCPT" => match inner.next_answer() {
                Some(Answer::NotNow) => "451 the mailbox is busy\r\n",
                Some(Answer::Never) => "550 there is no such mailbox\r\n",
                Some(Answer::Blocked) => "554 5.7.1 <c_1@customers.invalid> your address is blocked\r\n",
                Some(Answer::Silence) => std::future::pending().await,
                answer @ (Some(Answer::TextNotNow) | None) => {
                    takes_text = answer.is_none();
                    mail.to = address(rest);
                    "250 recipient taken\r\n"
                }
            },
            "DATA" if mail.to.is_empty() => "503 RCPT comes first\r\n",
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                while let Some(line) = lines.next_line().await? {
                    if line == "." {
                        break;
                    }
                    mail.data.push_str(line.strip_prefix('.').unwrap_or(&line));
                    mail.data.push('\n');
                }
                let whole = std::mem::take(&mut mail);
                if takes_text {
                    inner.mails.lock().unwrap().push(whole);
                    "250 taken\r\n"
                } else {
                    "451 the disk is full\r\n"
                }
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "500 what?\r\n",
        };
        write.write_all(reply.as_bytes()).await?;
    }
    Ok(())
}

/// The address in `FROM:<a@b> BODY=8BITMIME`.
fn address(rest: &str) -> String {
    let begin = rest.find('<').unwrap();
    rest[begin..=rest.find('>').unwrap()].to_owned()
}
