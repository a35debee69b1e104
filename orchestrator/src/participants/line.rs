//! Who is called next: those who come for the first time do not stand behind the crowd that an outage left.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::Dispatch;

/// Of those who come again go at most so many together. More would be done somewhat sooner that way, but who comes fresh
/// stands behind the slice that is under way at each stage (docs/performance.md has what either costs).
pub(crate) const CROWD: usize = 128;

/// What waits in a lane, in two lines. While both wait those who come for the first time have at least half of every slice.
pub(super) struct Line {
    queue: mpsc::UnboundedReceiver<Dispatch>,
    fresh: VecDeque<Dispatch>,
    again: VecDeque<Dispatch>,
}

impl Line {
    pub(super) const fn new(queue: mpsc::UnboundedReceiver<Dispatch>) -> Self {
        Self { queue, fresh: VecDeque::new(), again: VecDeque::new() }
    }

    /// Until somebody waits; false when nobody can come any more.
    pub(super) async fn is_waited_in(&mut self) -> bool {
        if self.fresh.is_empty() && self.again.is_empty() {
            match self.queue.recv().await {
                Some(dispatch) => self.add(dispatch),
                None => return false,
            }
        }
        true
    }

    /// The next so many.
    pub(super) fn take(&mut self, most: usize) -> Vec<Dispatch> {
        while let Ok(dispatch) = self.queue.try_recv() {
            self.add(dispatch);
        }
        let crowd = self.again.len().min(CROWD);
        let first = most.saturating_sub(crowd).max(most.div_ceil(2)).min(self.fresh.len());
        let then = (most - first).min(crowd);
        self.fresh.drain(..first).chain(self.again.drain(..then)).collect()
    }

    fn add(&mut self, dispatch: Dispatch) {
        if dispatch.is_fresh { self.fresh.push_back(dispatch) } else { self.again.push_back(dispatch) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use types::SagaId;
    use uuid::Uuid;

    use super::*;
    use crate::participants::Call;

    fn dispatch(n: u128, is_fresh: bool) -> Dispatch {
        Dispatch {
            saga: SagaId::from_uuid(Uuid::from_u128(n)),
            step: 0,
            call: Call::Commit(proto::inventory::v1::CommitItem::default()),
            time: Duration::from_secs(1),
            is_retry: false,
            is_fresh,
            span: tracing::Span::none(),
            queued: std::time::Instant::now(),
        }
    }

    fn taken(line: &mut Line, most: usize) -> Vec<u128> {
        line.take(most).iter().map(|dispatch| dispatch.saga.uuid().as_u128()).collect()
    }

    #[tokio::test]
    async fn the_fresh_have_half_while_others_wait_and_all_that_nobody_wants() {
        let (sender, queue) = mpsc::unbounded_channel();
        let mut line = Line::new(queue);
        for n in 0..6 {
            sender.send(dispatch(n, false)).unwrap();
        }
        for n in 10..14 {
            sender.send(dispatch(n, true)).unwrap();
        }
        assert!(line.is_waited_in().await);
        assert_eq!(taken(&mut line, 4), [10, 11, 0, 1]);
        assert_eq!(taken(&mut line, 3), [12, 13, 2]);
        assert_eq!(taken(&mut line, 2), [3, 4]);
        sender.send(dispatch(14, true)).unwrap();
        assert_eq!(taken(&mut line, 1), [14], "a slice of one is for the fresh");
        assert_eq!(taken(&mut line, 9), [5]);
        for n in 0..200 {
            sender.send(dispatch(n, n >= 180)).unwrap();
        }
        assert_eq!(taken(&mut line, 256).len(), 20 + CROWD);
        assert_eq!(taken(&mut line, 256).len(), 180 - CROWD);
        drop(sender);
        assert!(!line.is_waited_in().await);
    }
}
