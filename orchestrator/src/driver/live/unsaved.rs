//! What is recorded of a saga and not committed. A saga that only waits has nothing of it: it is one pointer wide.

use chassis::bus::Message;
use uuid::Uuid;

use crate::journal::Recorded;

/// For the next commit.
#[derive(Default)]
pub(super) struct Unsaved(Option<Box<Parts>>);

/// Its parts.
#[derive(Default)]
pub(super) struct Parts {
    /// Facts, the oldest first.
    pub(super) events: Vec<Recorded>,
    /// Commands that the facts are followed by.
    pub(super) messages: Vec<Message>,
    /// Signals that are answered with it.
    pub(super) signals: Vec<Uuid>,
}

impl Unsaved {
    /// The facts, the oldest first.
    pub(super) fn events(&self) -> &[Recorded] {
        self.0.as_ref().map_or(&[], |parts| &parts.events)
    }

    /// Adds a fact.
    pub(super) fn record(&mut self, fact: Recorded) {
        self.parts().events.push(fact);
    }

    /// Adds a command.
    pub(super) fn send(&mut self, message: Message) {
        self.parts().messages.push(message);
    }

    /// Adds a signal.
    pub(super) fn answer(&mut self, signal: Uuid) {
        self.parts().signals.push(signal);
    }

    /// All of it, for a commit.
    pub(super) fn take(&mut self) -> Parts {
        self.0.take().map_or_else(Parts::default, |parts| *parts)
    }

    /// The signals alone.
    pub(super) fn take_signals(&mut self) -> Vec<Uuid> {
        self.0.as_mut().map(|parts| std::mem::take(&mut parts.signals)).unwrap_or_default()
    }

    fn parts(&mut self) -> &mut Parts {
        self.0.get_or_insert_default()
    }
}
