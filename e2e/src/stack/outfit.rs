//! What a process of Amends is told by its environment, whoever starts it and wherever its ground is.

use std::path::Path;

use super::{Databases, Member};

/// What all processes of a stack share.
pub(crate) struct Outfit<'a> {
    pub(crate) databases: &'a Databases,
    pub(crate) amqp: &'a str,
    pub(crate) redis: &'a str,
    /// For what must survive a restart.
    pub(crate) folder: &'a Path,
}

impl Outfit<'_> {
    /// A member's variables; `address` says where a service serves, if it does. What is added later wins.
    pub(crate) fn of<'s>(
        &self,
        member: Member,
        address: impl Fn(Member) -> Option<&'s str>,
    ) -> Vec<(String, String)> {
        let prefix = self.databases.prefix();
        let mut variables = vec![
            ("AMENDS_AMQP_URL", self.amqp.to_owned()),
            ("AMENDS_AMQP_PREFIX", format!("{prefix}.")),
            ("AMENDS_REDIS_URL", self.redis.to_owned()),
            ("AMENDS_REDIS_PREFIX", format!("{prefix}:")),
            ("AMENDS_TOKEN_KEY", chassis::testbed::TOKEN_KEY.to_owned()),
        ];
        variables.extend(self.databases.variables(member));
        match member {
            Member::Orchestrator(_) => {
                for (service, name) in [
                    (Member::Order, "AMENDS_ORDER_URL"),
                    (Member::Inventory, "AMENDS_INVENTORY_URL"),
                    (Member::Risk, "AMENDS_RISK_URL"),
                    (Member::Payment, "AMENDS_PAYMENT_URL"),
                    (Member::Ledger, "AMENDS_LEDGER_URL"),
                ] {
                    variables.extend(address(service).map(|address| (name, format!("http://{address}"))));
                }
            }
            Member::Notification => {
                let letters = self.folder.join("letters").display().to_string();
                variables.push(("AMENDS_NOTIFICATION_OUTBOX_DIR", letters));
            }
            _ => {}
        }
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
