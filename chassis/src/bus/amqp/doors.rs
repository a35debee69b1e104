//! What fuzzing knocks at: a delivery as a message, and a message as it would be published.
//!
//! Nobody else calls these. Read next: `envelope`, and the room `fuzz/`.

use lapin::{BasicProperties, message::Delivery};

use super::{
    envelope::{self, Publication},
    topology::Names,
};
use crate::bus::{Message, Queue};

/// The message in a delivery.
///
/// # Errors
/// Why it is dead.
pub fn read(delivery: &Delivery) -> Result<Message, String> {
    envelope::read(delivery, &Names::new(""))
}

/// The ways a message may go on: as it is, back to its queue, up the ladder, to the dead queue.
///
/// # Errors
/// Why it can never go.
pub fn ways_on(message: &Message, queue: &Queue) -> Result<[Delivery; 4], String> {
    let names = Names::new("");
    let [rung, ..] = crate::bus::LADDER;
    Ok([
        Publication::of(message, &names)?,
        Publication::back(message, queue, &names)?,
        Publication::retry(message, queue, rung, &names)?,
        Publication::dead(message, queue, "why", &names)?,
    ]
    .map(delivered))
}

/// What cannot be read, as it goes to the dead queue.
#[must_use]
pub fn dead_raw(delivery: &Delivery, queue: &Queue) -> BasicProperties {
    Publication::dead_raw(delivery, queue, "why", &Names::new("")).properties
}

fn delivered(publication: Publication) -> Delivery {
    let Publication { exchange, routing_key, properties, body, mandatory: _ } = publication;
    let mut delivery = Delivery::mock(1, exchange, routing_key, false, body);
    delivery.properties = properties;
    delivery
}
