//! What people see of a process: its HTTP side door, and traces that never hold it up.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chassis::{
    http::{self, Checks},
    stop::Stop,
    telemetry::{Format, Options, Telemetry},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn the_side_door_tells_life_readiness_and_metrics() {
    let stop = Stop::new();
    let there = Arc::new(AtomicBool::new(false));
    let look = Arc::clone(&there);
    let checks = Checks::new()
        .with("bus", move || {
            let there = look.load(Ordering::SeqCst);
            async move { if there { Ok(()) } else { Err("the broker is away".into()) } }
        })
        .with("database", || async { Ok(()) });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = http::router(checks, &stop);
    let serving = stop.clone();
    stop.spawn(async move { http::serve(listener, router, &serving).await.unwrap() });

    metrics::counter!("amends_test_total", "kind" => "x").increment(3);
    metrics::histogram!("amends_test_seconds").record(0.003);
    let (status, body) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("amends_test_total{kind=\"x\"} 3"), "{body}");
    assert!(body.contains("amends_test_seconds_bucket{le=\"0.005\"} 1"), "{body}");
    assert_eq!(get(address, "/healthz").await, (200, "alive\n".into()));
    assert_eq!(get(address, "/readyz").await, (503, "bus: the broker is away\n".into()));
    there.store(true, Ordering::SeqCst);
    assert_eq!(get(address, "/readyz").await, (200, "ready\n".into()));
    assert_eq!(get(address, "/elsewhere").await.0, 404);
    stop.request();
    assert!(stop.finish(Duration::from_secs(5)).await);
    assert!(TcpStream::connect(address).await.is_err());
}

/// The only test that may set up telemetry for the whole test process.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_nobody_up() {
    let options = |endpoint: &str, filter: &str| Options {
        service: "test".into(),
        filter: filter.into(),
        format: Format::Json,
        otlp_endpoint: Some(endpoint.into()),
        trace_ratio: 1.0,
    };
    assert!(Telemetry::start(&options("", "in=fo=")).is_err());
    assert!(Telemetry::start(&options("not a url", "off")).is_err());

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let begin = Instant::now();
    let telemetry = Telemetry::start(&options(&endpoint, "off")).unwrap();
    for i in 0..5000 {
        let _span = tracing::info_span!("work", i).entered();
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(Telemetry::start(&options(&endpoint, "off")).is_err(), "once per process");
    telemetry.finish().await;
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    drop(silent);
}
