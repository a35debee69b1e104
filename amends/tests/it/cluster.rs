//! The private cluster: made, left running, killed, found again, stopped.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use amends::cluster::{Cluster, Error, Options};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use tempfile::TempDir;

/// A data folder whose cluster is stopped at the end, also when a test fails.
struct Place {
    options: Options,
    _folder: TempDir,
}

impl Place {
    fn new(below: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // As root the cluster runs as another account, which must get here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let binaries = PathBuf::from(chassis::testbed::variable("AMENDS_TEST_POSTGRES_BIN"));
        let options = Options { data_dir: folder.path().join(below), binaries: Some(binaries) };
        Self { options, _folder: folder }
    }

    fn start(&self) -> Cluster {
        Cluster::start(&self.options).unwrap()
    }

    fn data(&self) -> PathBuf {
        self.options.data_dir.join("postgres").join("data")
    }

    fn postmaster(&self) -> Pid {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists()
            && let Ok(cluster) = Cluster::start(&self.options)
        {
            let _ = cluster.stop();
        }
    }
}

async fn run(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
}

async fn read(url: &str, sql: &str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.fetch_one(AssertSqlSafe(sql.to_owned())).await.unwrap().get(0)
}

fn root(cluster: &Cluster) -> String {
    cluster.url("postgres", "postgres")
}

#[tokio::test]
async fn what_was_written_survives_a_reuse_a_stop_and_a_start() {
    let place = Place::new("data");
    let cluster = place.start();
    assert!(!cluster.was_running());
    run(&root(&cluster), "create table kept (t text); insert into kept values ('here')").await;
    assert_eq!(read(&root(&cluster), "show fsync").await, "on");
    let best = "case when 'lz4' = any(enumvals) then 'lz4' else 'off' end";
    let compressed =
        format!("select (setting = {best})::text from pg_settings where name = 'wal_compression'");
    assert_eq!(read(&root(&cluster), &compressed).await, "true");
    assert_eq!(read(&root(&cluster), "show server_encoding").await, "UTF8");
    assert_eq!(read(&cluster.tcp_url("postgres", "postgres"), "show listen_addresses").await, "127.0.0.1");

    // The program that started it is gone; the next one finds it at work.
    let again = place.start();
    assert!(again.was_running());
    assert_eq!((again.port(), root(&again)), (cluster.port(), root(&cluster)));
    assert_eq!(read(&root(&again), "select t from kept").await, "here");

    again.stop().unwrap();
    assert!(!again.is_running());
    again.stop().unwrap();

    let third = place.start();
    assert!(!third.was_running());
    assert_eq!(third.port(), cluster.port());
    assert_eq!(read(&root(&third), "select t from kept").await, "here");
    third.stop().unwrap();
}

#[tokio::test]
async fn a_server_that_was_killed_comes_back_with_what_was_committed() {
    let place = Place::new("data");
    let cluster = place.start();
    run(&root(&cluster), "create table kept (t text); insert into kept values ('here')").await;

    kill_process(place.postmaster(), Signal::KILL).unwrap();
    until_gone(&cluster);
    assert!(place.data().join("postmaster.pid").exists());
    let again = place.start();
    assert!(!again.was_running());
    assert_eq!(read(&root(&again), "select t from kept").await, "here");

    // The same, while its owner is alive: on the same port, because pools know it.
    kill_process(place.postmaster(), Signal::KILL).unwrap();
    until_gone(&again);
    again.revive().unwrap();
    again.revive().unwrap();
    assert_eq!(read(&root(&again), "select t from kept").await, "here");
    again.stop().unwrap();
}

fn until_gone(cluster: &Cluster) {
    let begin = Instant::now();
    while cluster.is_running() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the server outlives kill -9");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_pid_file_whose_number_is_somebody_elses_is_not_believed() {
    let place = Place::new("data");
    let cluster = place.start();
    let file = place.data().join("postmaster.pid");
    let text = fs::read_to_string(&file).unwrap();
    cluster.stop().unwrap();
    // As after a reboot: the old file, and a process with its number that is no Postgres, here this test.
    let (_, rest) = text.split_once('\n').unwrap();
    fs::write(&file, format!("{}\n{rest}", std::process::id())).unwrap();
    let again = place.start();
    assert!(!again.was_running());
    assert_eq!(read(&root(&again), "select 'alive'").await, "alive");
    again.stop().unwrap();
}

#[tokio::test]
async fn a_half_made_cluster_is_made_anew_and_a_deep_folder_has_tcp_only() {
    let place = Place::new(&["deep"; 30].join("/"));
    let half = place.options.data_dir.join("postgres").join("data.new");
    fs::create_dir_all(half.join("base")).unwrap();
    fs::write(half.join("PG_VERSION"), "15").unwrap();
    let cluster = place.start();
    assert_eq!(root(&cluster), cluster.tcp_url("postgres", "postgres"));
    assert_eq!(read(&root(&cluster), "show unix_socket_directories").await, "");
    assert!(!half.exists());
    cluster.stop().unwrap();
}

#[test]
fn a_folder_that_the_account_cannot_pass_is_named() {
    let place = Place::new("data");
    let closed: &Path = place.options.data_dir.parent().unwrap();
    fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).unwrap();
    match Cluster::start(&place.options) {
        // Only root runs it as somebody else.
        Ok(cluster) => {
            assert!(!rustix::process::geteuid().is_root());
            cluster.stop().unwrap();
        }
        Err(error) => {
            assert!(matches!(&error, Error::Barred { folder } if folder == closed), "{error}");
            assert!(error.to_string().contains("chmod o+x"), "{error}");
        }
    }
}
