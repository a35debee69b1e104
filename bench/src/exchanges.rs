//! How often the orchestrator called its participants, as the process itself counts it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A slice of steps for one participant, and its answers, is one exchange.
const COUNTED: &str = "amends_step_slice_size_count";
const PATIENCE: Duration = Duration::from_secs(10);

/// Since the process with this HTTP door started.
///
/// # Errors
/// When its metrics cannot be read.
pub(crate) async fn so_far(door: &str) -> anyhow::Result<u64> {
    let asked = tokio::time::timeout(PATIENCE, metrics(door)).await;
    let text = asked.context("its metrics do not come")?.with_context(|| format!("http://{door}/metrics"))?;
    Ok(counted(&text))
}

async fn metrics(door: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(door).await?;
    // HTTP/1.0: the answer ends with the connection, and is never chunked.
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {door}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "it does not tell");
    Ok(answer)
}

/// None yet is 0: a metric is told once it was counted.
fn counted(text: &str) -> u64 {
    let of_one = |line: &str| {
        let rest = line.strip_prefix(COUNTED)?;
        let count = rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next())??;
        count.parse::<u64>().ok()
    };
    text.lines().filter_map(of_one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_are_added_up() {
        let text = "HTTP/1.0 200 OK\r\n\r\n# TYPE amends_step_slice_size histogram\n\
                    amends_step_slice_size_bucket{le=\"1\"} 3\namends_step_slice_size_count 12\n\
                    amends_step_slice_size_count{service=\"b\"} 5\namends_step_slice_size_counter 9\n";
        assert_eq!(counted(text), 17);
        assert_eq!(counted("amends_shards_owned 16\n"), 0);
    }
}
