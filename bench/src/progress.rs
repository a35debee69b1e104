//! How far a run is, for people who look on: a bar on standard error, where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use load::Load;
use tokio::time::Instant;

const EVERY: Duration = Duration::from_millis(200);

/// Does the work of one run under a bar.
pub(crate) async fn shown<T>(name: &str, load: &Load, work: impl Future<Output = T>) -> T {
    let whole = load.warm_up + load.time;
    let bar = ProgressBar::new(millis(whole)).with_message(name.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{msg:<28} {bar:32} {prefix}") {
        bar.set_style(style);
    }
    let began = Instant::now();
    let mut work = std::pin::pin!(work);
    let mut tick = tokio::time::interval(EVERY);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = tick.tick() => {
                let passed = began.elapsed();
                bar.set_position(millis(passed.min(whole)));
                bar.set_prefix(stage(passed, load));
            }
        }
    };
    bar.finish_and_clear();
    done
}

fn stage(passed: Duration, load: &Load) -> String {
    match passed.checked_sub(load.warm_up) {
        None => format!("warming up: {} of {} s", passed.as_secs(), load.warm_up.as_secs()),
        Some(passed) if passed < load.time => format!("{} of {} s", passed.as_secs(), load.time.as_secs()),
        Some(_) => "waiting for the last orders".to_owned(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use load::{
        Pace,
        mix::{Mix, Spread},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_says_how_far_it_is_and_gives_back_what_came_of_it() {
        let load = Load {
            pace: Pace::Closed(1),
            mix: Mix::Happy,
            spread: Spread::Uniform,
            warm_up: Duration::from_secs(4),
            time: Duration::from_secs(10),
            seed: 1,
        };
        let at = |seconds| stage(Duration::from_secs(seconds), &load);
        assert_eq!(
            [at(3), at(7), at(14)],
            ["warming up: 3 of 4 s", "3 of 10 s", "waiting for the last orders"]
        );
        let work = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            7
        };
        assert_eq!(shown("it", &load, work).await, 7);
    }
}
