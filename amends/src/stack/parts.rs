//! Each service on its ground: one function per service, for a process that runs all and for one that runs one.
//!
//! They start what works behind the doors; nothing is served or taken from the bus yet. Read next: `services.rs`.

use std::sync::Arc;

use chassis::keyring::Keyring;
use orchestrator::Callees;
use sqlx::PgPool;

use super::{
    ground::{Error, Ground},
    services::Identity,
};

/// The orchestrator.
///
/// # Errors
/// A saga definition that does not hold.
pub(crate) fn orchestrator(
    ground: &Ground,
    pool: PgPool,
    (settings, keys): (orchestrator::Settings, Keyring),
    callees: Callees,
    identity: Identity,
) -> Result<orchestrator::Service, Error> {
    let wiring = orchestrator::Wiring {
        pool,
        bus: Arc::clone(&ground.bus),
        cache: Arc::clone(&ground.cache),
        limiter: Arc::clone(&ground.limiter),
        keys,
        callees,
        instance: identity.instance,
        address: identity.address,
        stop: ground.stop.clone(),
    };
    Ok(orchestrator::Service::start(settings, wiring)?)
}

/// order-svc.
pub(crate) fn order(ground: &Ground, pool: PgPool, settings: order_svc::Settings) -> order_svc::Service {
    let wiring = order_svc::Wiring { pool, bus: Arc::clone(&ground.bus), stop: ground.stop.clone() };
    order_svc::Service::start(settings, wiring)
}

/// inventory-svc.
pub(crate) fn inventory(
    ground: &Ground,
    pool: PgPool,
    settings: inventory_svc::Settings,
) -> inventory_svc::Service {
    let wiring = inventory_svc::Wiring {
        pool,
        bus: Arc::clone(&ground.bus),
        cache: Arc::clone(&ground.cache),
        stop: ground.stop.clone(),
    };
    inventory_svc::Service::start(settings, wiring)
}

/// risk-svc.
pub(crate) fn risk(ground: &Ground, pool: PgPool, settings: risk_svc::Settings) -> risk_svc::Service {
    let wiring = risk_svc::Wiring { pool, bus: Arc::clone(&ground.bus), stop: ground.stop.clone() };
    risk_svc::Service::start(settings, wiring)
}

/// payment-svc, with the provider simulator's book in a database of its own.
pub(crate) fn payment(
    ground: &Ground,
    pool: PgPool,
    simulator_pool: PgPool,
    (settings, keys): (payment_svc::Settings, Keyring),
) -> payment_svc::Service {
    let wiring = payment_svc::Wiring {
        pool,
        simulator_pool,
        keys,
        bus: Arc::clone(&ground.bus),
        stop: ground.stop.clone(),
    };
    payment_svc::Service::start(settings, wiring)
}

/// ledger-svc.
pub(crate) fn ledger(ground: &Ground, pool: PgPool, settings: ledger_svc::Settings) -> ledger_svc::Service {
    let wiring = ledger_svc::Wiring { pool, bus: Arc::clone(&ground.bus), stop: ground.stop.clone() };
    ledger_svc::Service::start(settings, wiring)
}

/// notification-svc.
pub(crate) fn notification(
    ground: &Ground,
    pool: PgPool,
    settings: notification_svc::Settings,
) -> notification_svc::Service {
    let wiring = notification_svc::Wiring { pool, bus: Arc::clone(&ground.bus), stop: ground.stop.clone() };
    notification_svc::Service::start(settings, wiring)
}
