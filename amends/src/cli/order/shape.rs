//! How an order looks: as JSON, as a page, as a row, as a line of a watch.
//!
//! The JSON keeps the names of the wire. Read next: `../value.rs`.

use std::collections::BTreeMap;

use proto::order::v1::{Order, OrderLine};
use serde_json::{Value, json};

use crate::cli::{
    output::{Fields, Table, plain},
    value::{moment, money, money_json, time, time_json, yes},
};

/// Every field, by its name on the wire.
pub(super) fn json(order: &Order) -> Value {
    json!({
        "order_id": order.order_id,
        "saga_id": order.saga_id,
        "status": order.status().as_str_name(),
        "status_reason": order.status_reason,
        "status_metadata": sorted(&order.status_metadata),
        "customer_id": order.customer_id,
        "merchant_id": order.merchant_id,
        "currency_code": order.currency_code,
        "lines": order.lines.iter().map(line_json).collect::<Vec<_>>(),
        "subtotal": money_json(order.subtotal.as_ref()),
        "tax": money_json(order.tax.as_ref()),
        "total": money_json(order.total.as_ref()),
        "cancel_requested": order.cancel_requested,
        "create_time": time_json(order.create_time.as_ref()),
        "update_time": time_json(order.update_time.as_ref()),
        "etag": order.etag,
        "metadata": sorted(&order.metadata),
    })
}

/// All orders of a list.
pub(super) fn list_json(orders: &[Order]) -> Value {
    json!({ "orders": orders.iter().map(json).collect::<Vec<_>>() })
}

fn line_json(line: &OrderLine) -> Value {
    json!({ "sku": line.sku, "quantity": line.quantity, "unit_price": money_json(line.unit_price.as_ref()) })
}

fn sorted<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> BTreeMap<&'a str, &'a str> {
    map.into_iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// A page about one.
pub(super) fn text(order: &Order) -> String {
    let mut fields = Fields::default()
        .with("order", &order.order_id)
        .with("status", order.status().as_str_name())
        .with("reason", reason(order))
        .with("cancel requested", yes(order.cancel_requested))
        .with("customer", &order.customer_id)
        .with("merchant", &order.merchant_id)
        .with("created", time(order.create_time.as_ref()))
        .with("updated", time(order.update_time.as_ref()))
        .with("saga", &order.saga_id);
    for (key, value) in sorted(&order.metadata) {
        fields = fields.with(format!("metadata.{key}"), value);
    }
    let rows = order
        .lines
        .iter()
        .map(|line| [line.sku.clone(), line.quantity.to_string(), money(line.unit_price.as_ref())]);
    let sums = Fields::default()
        .with("subtotal", money(order.subtotal.as_ref()))
        .with("tax", money(order.tax.as_ref()))
        .with("total", money(order.total.as_ref()));
    format!("{fields}\n\n{}\n\n{sums}", Table::new(["SKU", ">QUANTITY", ">UNIT PRICE"], rows))
}

/// Many, one per row.
pub(super) fn table(orders: &[Order]) -> Table<6> {
    let rows = orders.iter().map(|order| {
        [
            order.order_id.clone(),
            order.status().as_str_name().to_owned(),
            money(order.total.as_ref()),
            order.customer_id.clone(),
            time(order.create_time.as_ref()),
            reason(order),
        ]
    });
    Table::new(["ORDER", "STATUS", ">TOTAL", "CUSTOMER", "CREATED", "REASON"], rows)
}

/// One change.
pub(super) fn line(order: &Order) -> String {
    let text = format!(
        "{}  {:<18}  {}",
        moment(order.update_time.as_ref()),
        order.status().as_str_name(),
        plain(&reason(order))
    );
    text.trim_end().to_owned()
}

fn reason(order: &Order) -> String {
    let metadata = sorted(&order.status_metadata).into_iter().map(|(key, value)| format!("{key}={value}"));
    [order.status_reason.clone()].into_iter().chain(metadata).collect::<Vec<_>>().join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proto::{money::Money, order::v1::OrderStatus};

    use super::*;

    fn order() -> Order {
        let eur = |minor_units| Some(Money { minor_units, currency_code: "EUR".into() });
        Order {
            order_id: "ord_1".into(),
            saga_id: "saga_1".into(),
            status: OrderStatus::Cancelled.into(),
            status_reason: "OUT_OF_STOCK".into(),
            status_metadata: HashMap::from([("sku".into(), "P1".into()), ("available".into(), "3".into())]),
            currency_code: "EUR".into(),
            lines: vec![OrderLine { sku: "P1".into(), quantity: 4, unit_price: eur(1999) }],
            total: eur(7996),
            create_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            ..Order::default()
        }
    }

    #[test]
    fn json_keeps_names_numbers_and_times() {
        let json = json(&order());
        assert_eq!(json["status"], "CANCELLED");
        assert_eq!(json["total"], serde_json::json!({ "minor_units": 7996, "currency_code": "EUR" }));
        assert_eq!(json["lines"][0]["quantity"], 4);
        assert_eq!(json["create_time"], "2023-11-14T22:13:20Z");
        assert_eq!(json["update_time"], Value::Null);
        assert_eq!(json["status_metadata"]["sku"], "P1");
    }

    #[test]
    fn a_row_says_why() {
        assert_eq!(
            table(&[order()]).to_string(),
            "ORDER  STATUS         TOTAL  CUSTOMER  CREATED               REASON\n\
             ord_1  CANCELLED  79.96 EUR            2023-11-14 22:13:20Z  OUT_OF_STOCK available=3 sku=P1"
        );
        assert!(text(&order()).contains("total  79.96 EUR"));
    }
}
