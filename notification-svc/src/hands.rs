//! Who may send a letter now: a place among those that are on their way, with the breaker's leave.
//!
//! Both who stores a letter and who finds it due take places here. Letters that wait in the database come first: while
//! there may be any, nobody is given a place for a new one.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chassis::breaker::{self, Breaker, Permit};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{Settings, sink::Sink, store::Due};

/// The places. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct Hands {
    /// How long a letter is in hand; then it is due again, whoever had it.
    pub(crate) lease: Duration,
    window: usize,
    places: Arc<Semaphore>,
    breaker: Breaker,
    /// New letters are for whoever finds them due: others wait for a place, or the process stops.
    is_held: Arc<AtomicBool>,
    due: Arc<Notify>,
    queue: mpsc::UnboundedSender<InHand>,
}

/// A letter to send, and its place.
pub(crate) type InHand = (Due, Place);

/// One letter may be on its way.
pub(crate) struct Place {
    pub(crate) permit: Permit,
    _place: OwnedSemaphorePermit,
}

impl Hands {
    /// All places, none of which is given for a new letter before [`Hands::hold`] says so; and what comes of them.
    pub(crate) fn new(settings: &Settings, sink: &dyn Sink) -> (Self, mpsc::UnboundedReceiver<InHand>) {
        let (queue, letters) = mpsc::unbounded_channel();
        let hands = Self {
            lease: settings.smtp_timeout.saturating_mul(2).saturating_add(settings.notification_margin),
            window: sink.window(),
            places: Arc::new(Semaphore::new(sink.window())),
            breaker: Breaker::new(sink.name(), breaker::Options::default()),
            is_held: Arc::new(AtomicBool::new(true)),
            due: Arc::default(),
            queue,
        };
        (hands, letters)
    }

    /// Up to so many places for letters that are not stored yet.
    pub(crate) fn take(&self, most: usize) -> VecDeque<Place> {
        if self.is_held.load(Ordering::Relaxed) { VecDeque::new() } else { self.places(most).collect() }
    }

    /// Up to so many places.
    pub(crate) fn places(&self, most: usize) -> impl Iterator<Item = Place> {
        let free = self.places.available_permits().min(most);
        (0..free).map_while(|_| {
            let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
            Some(Place { permit: self.breaker.permit(1).ok()?, _place: place })
        })
    }

    /// All places are.
    pub(crate) fn are_taken(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// Nobody has a place.
    pub(crate) fn are_empty(&self) -> bool {
        self.places.available_permits() >= self.window
    }

    /// Whether new letters have to wait until they are found due.
    pub(crate) fn hold(&self, held: bool) {
        self.is_held.store(held, Ordering::Relaxed);
    }

    /// Sends what was just stored, in hand.
    pub(crate) fn send(&self, due: Due, place: Place) {
        // Without anybody to send it, it is due again when its claim lapses.
        let _ = self.queue.send((due, place));
    }

    /// Something is due.
    pub(crate) fn wake(&self) {
        self.due.notify_one();
    }

    /// Until something is due.
    pub(crate) async fn woken(&self) {
        self.due.notified().await;
    }
}
