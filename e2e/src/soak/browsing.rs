//! A customer who looks at goods before he buys: what inventory-svc shows goes through its cache. Without him nobody would
//! notice that its Redis is away, nor be there to connect to it again.

use std::time::Duration;

use proto::inventory::v1::{GetStockRequest, inventory_client::InventoryClient};
use tokio::{sync::watch, task::JoinHandle};

use crate::load::Line;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// A look that takes longer is given up: whoever is paused answers nobody.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks until it is told to stop, and says then how often something was shown. That looks fail while things break is as it
/// should be.
pub(super) fn begin(line: &Line, mut stopped: watch::Receiver<bool>) -> JoinHandle<usize> {
    let mut inventory = InventoryClient::new(line.doors().inventory);
    tokio::spawn(async move {
        let mut shown = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return shown,
            }
            let look = inventory.get_stock(GetStockRequest { sku: crate::load::GOOD.into() });
            if let Ok(Ok(stock)) = tokio::time::timeout(PATIENCE, look).await {
                shown += usize::from(stock.get_ref().sku == crate::load::GOOD);
            }
        }
    })
}
