//! I4, order by order: stock is held by live orders and sold to completed ones, and not before they can no longer turn.

use super::Case;
use crate::audit::{report::Invariant::I4, rows::End};

pub(super) fn judge(case: &mut Case<'_>) {
    let bundle = case.bundle;
    case.tally.checked(I4, bundle.reservations.len() as u64);
    for reservation in &bundle.reservations {
        let Some(state) = reservation.state.as_deref() else { continue };
        let step = &reservation.step;
        if bundle.order.is_none() && state != "RELEASED" {
            case.suspect(I4, &format!("{step} is {state}, and there is no order"));
        }
        match (case.settled, state) {
            (Some(End::Completed), "RESERVED" | "RELEASED")
            | (Some(End::Compensated), "RESERVED" | "SOLD") => {
                let status = bundle.order.as_ref().map_or("not there", |order| order.status.as_str());
                case.suspect(I4, &format!("{step} is {state}, the order is {status}"));
            }
            _ => {}
        }
        if state == "SOLD" && bundle.story.as_ref().is_some_and(|story| !story.pivot) {
            case.suspect(I4, &format!("{step} is SOLD, and the saga never passed its pivot"));
        }
    }
    let is_order = bundle.order.is_some() && case.settled == Some(End::Completed);
    if is_order && !bundle.reservations.iter().any(|reservation| reservation.state.is_some()) {
        case.suspect(I4, "COMPLETED, and no stock was ever reserved for it");
    }
}
