//! Every queue of Amends.
//!
//! Each process declares them all at the broker, so that nothing is said to a queue that is not there yet. A test
//! compares the list with what the services take. Read next: `chassis::bus::amqp`.

use chassis::bus::Queue;

/// Every queue that some service takes.
#[must_use]
pub fn queues() -> Vec<Queue> {
    vec![
        Queue::replies(),
        Queue::commands("order"),
        Queue::commands("inventory"),
        Queue::commands("risk"),
        Queue::commands("payment"),
        Queue::commands("ledger"),
        Queue::events("ledger", &["payment.refunded"]),
        notification_svc::queue(),
    ]
}
