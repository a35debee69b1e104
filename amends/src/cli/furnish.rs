//! `amends furnish`: the catalogue of `amends up`, for services that run by themselves.
//!
//! Read next: `../demo.rs`.

use clap::Args;
use serde_json::json;

use super::{
    failure::Failure,
    server::{Server, Whose},
};
use crate::demo;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  amends furnish")]
pub(crate) struct Furnish {
    /// Also when there are goods already, as after a filling that was cut off; prices of the same SKUs are replaced
    #[arg(long)]
    anyway: bool,
}

impl Furnish {
    pub(crate) async fn run(self, server: &Server) -> Result<(), Failure> {
        // Says where nobody answers, which a call alone does not.
        for whose in [Whose::Order, Whose::Inventory] {
            server.connect_to(whose).await?;
        }
        let (order, inventory) = (server.callee(Whose::Order)?, server.callee(Whose::Inventory)?);
        let is_filled = self.anyway || demo::is_wanted_at(&order, &inventory).await?;
        if is_filled {
            demo::fill_at(&order, &inventory).await?;
        }
        let said = if is_filled {
            "the store is filled: try P1001 to P1010"
        } else {
            "there are goods already: nothing done (--anyway)"
        };
        server.screen().one(|| json!({ "filled": is_filled }), said)
    }
}
