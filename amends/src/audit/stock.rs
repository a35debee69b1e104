//! I4, the sums: what is available, reserved and sold of a SKU is what was put in, and what reservations say.
//!
//! All within one snapshot of inventory, so every finding is certain. Which orders may hold stock is judged saga by
//! saga, in `judge/stock.rs`.

use chassis::sql::{Checked, Statement};

use super::{
    Error,
    report::Invariant,
    sources::{Room, Snapshot, unreadable},
    tally::Tally,
};

/// SKU; available, reserved, sold; put in; held and sold by reservations.
type SkuRow = (String, Option<i64>, Option<i64>, Option<i64>, String, String, String);

static SKUS: Statement<(), SkuRow> = Statement::new(
    "select coalesce(s.sku, i.sku, r.sku), s.available, s.reserved, s.sold, \
       coalesce(i.quantity, 0)::text, coalesce(r.held, 0)::text, coalesce(r.sold, 0)::text \
     from inventory.stock s \
     full join (select sku, sum(quantity) as quantity from inventory.restock group by sku) i on i.sku = s.sku \
     full join (select l.sku, sum(l.quantity) filter (where v.state = 'RESERVED') as held, \
                  sum(l.quantity) filter (where v.state = 'SOLD') as sold \
                from inventory.reservation v cross join unnest(v.skus, v.quantities) as l (sku, quantity) \
                where v.state in ('RESERVED', 'SOLD') group by l.sku) r on r.sku = coalesce(s.sku, i.sku) \
     order by 1",
);

pub(super) fn statements() -> Vec<&'static dyn Checked> {
    vec![&SKUS]
}

/// Judges the sums of I4.
pub(super) async fn judge(snapshot: &mut Snapshot, tally: &mut Tally) -> Result<(), Error> {
    let room = Room::Inventory;
    for row in SKUS.all(snapshot.at(room), ()).await.map_err(unreadable(room))? {
        tally.checked(Invariant::I4, 1);
        for text in sums(&row) {
            tally.certain(Invariant::I4, text);
        }
    }
    Ok(())
}

fn sums((sku, available, reserved, sold, put_in, held, gone): &SkuRow) -> Vec<String> {
    // What does not parse as a number cannot be equal to one.
    let number = |text: &str| text.parse::<i128>().ok();
    let (Some(available), Some(reserved), Some(sold)) = (*available, *reserved, *sold) else {
        return vec![format!("{sku} has no stock row, but {put_in} put in, {held} held, {gone} sold")];
    };
    let mut found = Vec::new();
    let all = i128::from(available) + i128::from(reserved) + i128::from(sold);
    if number(put_in) != Some(all) {
        found.push(format!(
            "{sku}: {available} available + {reserved} reserved + {sold} sold = {all}, put in {put_in}"
        ));
    }
    if number(held) != Some(i128::from(reserved)) {
        found.push(format!("{sku}: {reserved} reserved, reservations hold {held}"));
    }
    if number(gone) != Some(i128::from(sold)) {
        found.push(format!("{sku}: {sold} sold, reservations sold {gone}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(stock: Option<(i64, i64, i64)>, others: [&str; 3]) -> SkuRow {
        let [put_in, held, sold] = others.map(str::to_owned);
        ("P1".into(), stock.map(|s| s.0), stock.map(|s| s.1), stock.map(|s| s.2), put_in, held, sold)
    }

    #[test]
    fn each_sum_is_compared() {
        assert_eq!(sums(&row(Some((5, 2, 3)), ["10", "2", "3"])).len(), 0);
        assert_eq!(sums(&row(Some((6, 2, 3)), ["10", "2", "3"])).len(), 1);
        assert_eq!(sums(&row(Some((5, 2, 3)), ["10", "3", "2"])).len(), 2);
        assert_eq!(sums(&row(None, ["10", "0", "0"])).len(), 1);
        assert_eq!(sums(&row(Some((i64::MAX, i64::MAX, 0)), ["99999999999999999999", "0", "0"])).len(), 2);
    }
}
