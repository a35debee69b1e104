//! The seven services of one process, and the orchestrator's way to call the others.
//!
//! Read next: `front.rs`, which serves them.

use chassis::{bus, http::Checks, keyring::Keyring};
use orchestrator::{Callees, Peer};
use tonic::service::RoutesBuilder;
use uuid::Uuid;

use super::{
    Settings,
    ground::{Error, Ground, driven, reachable},
    parts,
};
use crate::provision::Databases;

/// Who an orchestrator is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Its id, which no other process has.
    pub(crate) instance: Uuid,
    /// Where its doors are, for people.
    pub(crate) address: String,
}

/// The seven.
pub(super) struct Services {
    pub(super) orchestrator: orchestrator::Service,
    order: order_svc::Service,
    inventory: inventory_svc::Service,
    risk: risk_svc::Service,
    payment: payment_svc::Service,
    ledger: ledger_svc::Service,
    notification: notification_svc::Service,
    pub(super) checks: Checks,
}

impl Services {
    /// Starts them; the orchestrator last, because it calls the others.
    pub(super) async fn start(
        ground: &Ground,
        databases: &Databases,
        (settings, keys): (Settings, Keyring),
        identity: Identity,
    ) -> Result<Self, Error> {
        let pools = tokio::try_join!(
            ground.pool("order", &databases.order),
            ground.pool("inventory", &databases.inventory),
            ground.pool("risk", &databases.risk),
            ground.pool("payment", &databases.payment),
            ground.pool("simulator", &databases.simulator),
            ground.pool("ledger", &databases.ledger),
            ground.pool("notification", &databases.notification),
            ground.pool("orchestrator", &databases.orchestrator),
        )?;
        // One database in `amends up`, but a stack may be given eight.
        let checks = [
            ("order", &pools.0),
            ("inventory", &pools.1),
            ("risk", &pools.2),
            ("payment", &pools.3),
            ("simulator", &pools.4),
            ("ledger", &pools.5),
            ("notification", &pools.6),
            ("orchestrator", &pools.7),
        ]
        .into_iter()
        .fold(ground.checks.clone(), |checks, (service, pool)| reachable(checks, service, pool));
        let order = parts::order(ground, pools.0, settings.order);
        let inventory = parts::inventory(ground, pools.1, settings.inventory);
        let risk = parts::risk(ground, pools.2, settings.risk);
        let payment = parts::payment(ground, pools.3, pools.4, (settings.payment, keys.clone()));
        let ledger = parts::ledger(ground, pools.5, settings.ledger);
        let notification = parts::notification(ground, pools.6, settings.notification);
        let callees = Callees {
            catalog: Peer::Local(order.catalog()),
            order: Peer::Local(order.steps()),
            inventory: Peer::Local(inventory.steps()),
            risk: Peer::Local(risk.steps()),
            payment: Peer::Local(payment.steps()),
            ledger: Peer::Local(ledger.steps()),
        };
        let orchestrator =
            parts::orchestrator(ground, pools.7, (settings.orchestrator, keys), callees, identity)?;
        let checks = driven(checks, &orchestrator);
        Ok(Self { orchestrator, order, inventory, risk, payment, ledger, notification, checks })
    }

    /// Takes every queue.
    pub(super) async fn subscribe(&self) -> Result<(), bus::Error> {
        self.order.subscribe().await?;
        self.inventory.subscribe().await?;
        self.risk.subscribe().await?;
        self.payment.subscribe().await?;
        self.ledger.subscribe().await?;
        self.notification.subscribe().await?;
        self.orchestrator.subscribe().await
    }

    /// The doors of all.
    pub(super) fn routes(&self) -> RoutesBuilder {
        let mut routes = RoutesBuilder::default();
        self.orchestrator.register(&mut routes);
        self.order.register(&mut routes);
        self.inventory.register(&mut routes);
        self.risk.register(&mut routes);
        self.payment.register(&mut routes);
        self.ledger.register(&mut routes);
        self.notification.register(&mut routes);
        routes
    }

    /// The names of all, for health.
    pub(super) fn names() -> Vec<&'static str> {
        [
            orchestrator::Service::NAMES,
            order_svc::Service::NAMES,
            inventory_svc::Service::NAMES,
            risk_svc::Service::NAMES,
            payment_svc::Service::NAMES,
            ledger_svc::Service::NAMES,
            notification_svc::Service::NAMES,
        ]
        .concat()
    }
}
