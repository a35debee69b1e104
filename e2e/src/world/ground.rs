//! What a world stands on: its database and its bus.

use std::sync::Arc;

use chassis::{
    bus::{Bus, amqp, local::LocalBus},
    database::Schema,
    stop::Stop,
    testbed::{TestDatabase, variable},
};

use crate::{
    doors::drops::from_afar,
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
    pub(super) orchestrator_url: String,
    pub(super) local: Arc<LocalBus>,
    pub(super) amqp: Option<String>,
    pub(super) doubled: bool,
    pub(super) hanging: Option<Record>,
    pub(super) far: bool,
    pub(super) injector: Option<Injector>,
}

impl Ground {
    /// Where a service finds its database.
    pub(crate) async fn url(&self, schema: &Schema) -> String {
        let url = self.database.url(schema);
        if self.far { from_afar(&url).await } else { url }
    }

    /// Where an orchestrator finds its own: behind the proxy, if there is one.
    pub(crate) async fn orchestrators_url(&self) -> String {
        if self.far { self.url(&orchestrator::SCHEMA).await } else { self.orchestrator_url.clone() }
    }

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
