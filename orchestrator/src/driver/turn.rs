//! The loop, one turn at a time, for whoever drives time himself: the simulator.
//!
//! The same code as [`Driver::run`], which waits where this returns. It must never do anything that `run` does not.

use super::{Driver, Input};
use crate::saga::State;
use types::SagaId;

impl Driver {
    /// Takes everything that waits in the channels, and whatever is due. False when the loop was told to end.
    pub fn turn(&mut self) -> bool {
        loop {
            if let Ok(input) = self.channels.inputs.try_recv() {
                if matches!(input, Input::Stop) {
                    return false;
                }
                self.take(input);
            } else if let Ok(returned) = self.channels.returned.try_recv() {
                self.take_returned(returned);
            } else if let Ok(landed) = self.channels.landed.try_recv() {
                self.take_landed(landed);
            } else if let Ok(loaded) = self.channels.loaded.try_recv() {
                self.take_loaded(loaded);
            } else {
                self.settle();
                return true;
            }
            self.settle();
        }
    }

    /// When something is due next, milliseconds since 1970.
    #[must_use]
    pub fn due(&self) -> Option<i64> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// What is known of a saga that is in memory here.
    #[must_use]
    pub fn state(&self, saga: SagaId) -> Option<&State> {
        self.live.get(&saga).map(|live| &live.state)
    }

    /// The same, to be spoilt: the simulator proves by it that it would see a core with a bug.
    pub fn spoil(&mut self, saga: SagaId) -> Option<&mut State> {
        self.live.get_mut(&saga).map(|live| &mut live.state)
    }
}
