//! What a world stands on: its database and its bus.

use std::sync::Arc;

use chassis::{
    bus::{Bus, amqp, local::LocalBus},
    stop::Stop,
    testbed::{TestDatabase, variable},
};

use crate::{
    faults::{FaultyBus, Injector},
    meddle::{DoubledBus, HangingBus, Record},
    proxy::Proxy,
};

/// Everything that is not a service.
pub struct Ground {
    pub database: TestDatabase,
    pub settings: amends::stack::Settings,
    /// In front of the orchestrators' database, if there is one.
    pub proxy: Option<Proxy>,
    pub(crate) orchestrator_url: String,
    pub(super) local: Arc<LocalBus>,
    pub(super) amqp: Option<String>,
    pub(super) doubled: bool,
    pub(super) hanging: Option<Record>,
    pub(super) injector: Option<Injector>,
}

impl Ground {
    /// The prefix of this world's names on the broker.
    #[must_use]
    pub fn amqp_prefix(&self) -> Option<&str> {
        self.amqp.as_deref()
    }

    /// The bus, as a process of its own would open it.
    pub async fn bus(&self, stop: &Stop) -> Arc<dyn Bus> {
        let bus: Arc<dyn Bus> = match &self.amqp {
            None => Arc::clone(&self.local) as Arc<dyn Bus>,
            Some(prefix) => {
                let url = variable("AMENDS_TEST_AMQP_URL");
                let bus = amqp::AmqpBus::connect(&url, prefix, amends::stack::queues(), stop);
                Arc::new(bus.await.unwrap())
            }
        };
        let bus: Arc<dyn Bus> = match (&self.hanging, self.doubled) {
            (Some(record), _) => Arc::new(HangingBus(bus, record.clone())),
            (None, true) => Arc::new(DoubledBus(bus)),
            (None, false) => bus,
        };
        match &self.injector {
            Some(injector) => Arc::new(FaultyBus { bus, injector: injector.clone() }),
            None => bus,
        }
    }
}
