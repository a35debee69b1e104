//! Callers that hang up: a future that is polled so often and then dropped.
//!
//! A handler can be dropped wherever it waits, and nowhere else; each wait is one poll that was not the last. So dropping
//! it at its n-th poll, for every n until it needs no more, goes through all of its waits.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::World;

/// How much later the answers of a server that is far arrive.
const FAR: Duration = Duration::from_millis(2);

/// When a caller hangs up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HangUp {
    /// After so many polls, from 1.
    pub polls: usize,
    /// Not at once but when it is woken again: what it waited for has come, and nobody looks at it any more.
    pub when_woken: bool,
}

impl HangUp {
    /// The k-th of all, from 0: one poll, at once and when woken, then two, …
    #[must_use]
    pub const fn nth(k: usize) -> Self {
        Self { polls: k / 2 + 1, when_woken: k % 2 == 1 }
    }
}

/// What the work brought; none when the caller hung up before.
pub struct Until<F> {
    work: Option<Pin<Box<F>>>,
    hang_up: HangUp,
    polls: usize,
}

impl<F: Future> Until<F> {
    pub fn new(work: F, hang_up: HangUp) -> Self {
        Self { work: Some(Box::pin(work)), hang_up, polls: 0 }
    }
}

impl<F: Future> Future for Until<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let HangUp { polls, when_woken } = self.hang_up;
        if self.polls == polls {
            self.work = None;
            return Poll::Ready(None);
        }
        self.polls += 1;
        let work = self.work.as_mut().expect("not polled after its end");
        if let Poll::Ready(brought) = work.as_mut().poll(context) {
            return Poll::Ready(Some(brought));
        }
        if self.polls == polls && !when_woken {
            self.work = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// The URL of a database as it is reached from far away. Here an answer may be there before anybody waits for it, and what
/// does not wait cannot be hung up on; from there whoever asks waits.
pub(crate) async fn from_afar(url: &str) -> String {
    let authority = url.split_once("://").unwrap().1.split('/').next().unwrap();
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server).to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = url.replace(&server, &listener.local_addr().unwrap().to_string());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            let ((mut asks, mut hears), (mut answers, mut is_asked)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut asks, &mut is_asked).await });
            tokio::spawn(async move {
                let mut said = vec![0; 1 << 16];
                while let Ok(length @ 1..) = answers.read(&mut said).await {
                    tokio::time::sleep(FAR).await;
                    if hears.write_all(&said[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    here
}

/// Every connection of the pool: none has a transaction open.
pub async fn no_transaction_is_open(pool: &PgPool, who: &str) {
    let size = pool.options().get_max_connections();
    let connections = futures_util::future::join_all((0..size).map(|_| pool.acquire())).await;
    for connection in connections {
        let mut connection = connection.unwrap();
        let mut began = Vec::new();
        for _ in 0..2 {
            let query = "select now()::text, pg_current_xact_id_if_assigned() is null";
            let (begin, reads): (String, bool) =
                sqlx::query_as(query).fetch_one(&mut *connection).await.unwrap();
            assert!(reads, "{who}: a connection came back with what it wrote");
            began.push(begin);
        }
        // Each statement is a transaction of its own.
        assert_ne!(began[0], began[1], "{who}: a connection came back with its transaction open");
    }
}

/// No session of this world's database sits in a transaction that nobody goes on with.
pub async fn nobody_sits_in_a_transaction(world: &World, who: &str) {
    let mut connection = world.ground.database.connect().await;
    let (sitting,): (Option<String>,) = sqlx::query_as(
        "select string_agg(usename || ': ' || query, '; ') from pg_stat_activity \
         where datname = current_database() and state like 'idle in transaction%' \
         and clock_timestamp() - state_change > interval '2 seconds'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(sitting, None, "{who}");
}
