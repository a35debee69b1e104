//! What of the generated bad input is not refused as such, each with the reason. Everything else must be.

use tonic::Code;

/// What must come of a bad value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Refused as invalid, and the field (or what it stands in) is named.
    Refused,
    /// Refused as invalid, and this other field is named.
    Names(&'static str),
    /// Refused with this code.
    Code(Code),
    /// Turned away as what cannot be done.
    Fails,
    /// It is not bad.
    Legal,
}

/// One exception; `*` stands for anything, at either end of a word for the rest of it.
#[derive(Debug)]
pub struct Exception {
    pub method: &'static str,
    pub field: &'static str,
    pub how: &'static str,
    pub expect: Expect,
    /// Why.
    pub why: &'static str,
}

impl Exception {
    /// Whether it is made for steps, or for people's methods.
    #[must_use]
    pub fn is_of_steps(&self) -> bool {
        self.method.contains("Steps") || (self.method == "*" && self.field.starts_with("items"))
    }
}

const fn one(
    method: &'static str,
    field: &'static str,
    how: &'static str,
    expect: Expect,
    why: &'static str,
) -> Exception {
    Exception { method, field, how, expect, why }
}

use Expect::{Code as Says, Fails, Legal, Names, Refused};

const FILTER: &str = "a filter that nothing matches shows nothing";
const FOR_PEOPLE: &str =
    "what people write is theirs, in any script; it is a parameter of a statement, and never a part of one";
const UNKNOWN: &str = "it could be an id, and nobody has it";
const EVERY: &str = "left out, it filters nothing";
const SAGA_TO_COME: &str = "a participant knows a saga from its first step on";
const FOR_LOGS: &str = "it is for logs and traces and decides nothing; what is no trace is left out";
const REMARK: &str = "a compensation must not fail for the sake of its remark";

/// The first that fits counts.
pub const EXCEPTIONS: &[Exception] = &[
    // Pages.
    one("*", "page_size", "0", Legal, "0 means 50"),
    one("*", "page_size", "501", Legal, "above 500 means 500"),
    one("*", "page_size", "the most", Legal, "above 500 means 500"),
    // Filters.
    one("*", "status", "unspecified", Legal, EVERY),
    one("*", "state", "unspecified", Legal, EVERY),
    one("Orders/ListOrders", "*_id", "empty", Legal, EVERY),
    one("Orders/ListOrders", "*_id", "a space", Legal, FILTER),
    one("Orders/ListOrders", "*_id", "another script", Legal, FILTER),
    one("Orders/ListOrders", "*_id", "SQL", Legal, FILTER),
    one("Orders/ListOrders", "*_id", "a path", Legal, FILTER),
    one("Sagas/ListSagas", "kind", "empty", Legal, EVERY),
    one("Sagas/ListSagas", "kind", "a space", Legal, FILTER),
    one("Sagas/ListSagas", "kind", "another script", Legal, FILTER),
    one("Sagas/ListSagas", "kind", "SQL", Legal, FILTER),
    one("Sagas/ListSagas", "kind", "a path", Legal, FILTER),
    one("Catalog/ListPrices", "currency_code", "empty", Legal, EVERY),
    one("Catalog/ListPrices", "currency_code", "another one", Legal, FILTER),
    one("Ledger/ListAccounts", "prefix", "empty", Legal, EVERY),
    one("Ledger/ListEntries", "*_id", "empty", Legal, EVERY),
    one("Ledger/ListEntries", "*_id", "nobody's", Legal, FILTER),
    one("Ledger/ListEntries", "saga_id", "nil", Legal, FILTER),
    one("Notifications/ListDeliveries", "order_id", "empty", Legal, EVERY),
    one("Notifications/ListDeliveries", "order_id", "nobody's", Legal, FILTER),
    one("Notifications/ListDeliveries", "order_id", "nil", Legal, FILTER),
    // Keys.
    one("*", "request_id", "empty", Legal, "without one a repeat is another request"),
    one("*", "request_id", "a path", Legal, "any visible ASCII is a key"),
    // CreateOrder.
    one(
        "Orders/CreateOrder",
        "currency_code",
        "another one",
        Names("lines[0].unit_price.currency_code"),
        "it says that a price is in another one than the order",
    ),
    one("Orders/CreateOrder", "lines", "the same twice", Legal, "two lines of one thing are two lines"),
    one("Orders/CreateOrder", "lines[0].unit_price", "missing", Legal, "then the list price counts"),
    one(
        "Orders/CreateOrder",
        "payment.card.token",
        "no such token",
        Legal,
        "only the provider knows its tokens; the order is cancelled",
    ),
    one("Orders/CreateOrder", "wait", "missing", Legal, "then nobody waits"),
    one("Orders/CreateOrder", "metadata", "a value in another script", Legal, FOR_PEOPLE),
    // What people write.
    one("Orders/CancelOrder", "reason", "empty", Legal, "a customer owes no reason"),
    one("Sagas/*", "actor", "another script", Legal, FOR_PEOPLE),
    one("Sagas/*", "actor", "SQL", Legal, FOR_PEOPLE),
    one("Sagas/*", "actor", "a path", Legal, FOR_PEOPLE),
    one("Sagas/*", "reason", "a space", Refused, "the journal says why"),
    one("Sagas/*", "evidence", "another script", Legal, FOR_PEOPLE),
    one("Sagas/*", "evidence", "SQL", Legal, FOR_PEOPLE),
    one("Sagas/*", "evidence", "a path", Legal, FOR_PEOPLE),
    one("Reviews/DecideReview", "reviewer", "a space", Legal, FOR_PEOPLE),
    one("Reviews/DecideReview", "reviewer", "another script", Legal, FOR_PEOPLE),
    one("Reviews/DecideReview", "reviewer", "SQL", Legal, FOR_PEOPLE),
    one("Reviews/DecideReview", "reviewer", "a path", Legal, FOR_PEOPLE),
    one("Catalog/SetPrice", "title", "a space", Legal, FOR_PEOPLE),
    one("Catalog/SetPrice", "title", "another script", Legal, FOR_PEOPLE),
    one("Catalog/SetPrice", "title", "SQL", Legal, FOR_PEOPLE),
    one("Catalog/SetPrice", "title", "a path", Legal, FOR_PEOPLE),
    one("*", "reason", "a space", Legal, FOR_PEOPLE),
    one("*", "reason", "another script", Legal, FOR_PEOPLE),
    one("*", "reason", "SQL", Legal, FOR_PEOPLE),
    one("*", "reason", "a path", Legal, FOR_PEOPLE),
    // Ids.
    one("*", "order_id", "nobody's", Says(Code::NotFound), UNKNOWN),
    one("*", "order_id", "nil", Says(Code::NotFound), UNKNOWN),
    one("*", "saga_id", "nobody's", Says(Code::NotFound), UNKNOWN),
    one("*", "saga_id", "nil", Says(Code::NotFound), UNKNOWN),
    one("*", "payment_id", "nobody's", Says(Code::NotFound), UNKNOWN),
    one("*", "payment_id", "nil", Says(Code::NotFound), UNKNOWN),
    one("*", "account_id", "nobody's", Says(Code::NotFound), UNKNOWN),
    one("*", "delivery_id", "nobody's", Says(Code::NotFound), UNKNOWN),
    one("*", "delivery_id", "nil", Says(Code::NotFound), UNKNOWN),
    // Catalog, rules.
    one(
        "Catalog/SetPrice",
        "unit_price.currency_code",
        "another one",
        Legal,
        "a price in another currency is another price",
    ),
    one("Catalog/Quote", "items", "the same twice", Legal, "two carts alike are two carts"),
    one("Catalog/Quote", "items[0].key", "*", Legal, "it is the caller's own, and comes back as it came"),
    one("Catalog/Quote", "items[0].merchant_id", "empty", Legal, "nobody's in particular"),
    one(
        "Catalog/Quote",
        "items[0].currency_code",
        "another one",
        Names("items[0].lines[0].sku"),
        "there is no price in it",
    ),
    one("Catalog/Quote", "items[0].lines", "the same twice", Legal, "two lines of one thing are two lines"),
    one(
        "Catalog/Quote",
        "items[0].lines[0].expected_unit_price",
        "missing",
        Legal,
        "then nothing is expected",
    ),
    one(
        "Rules/SetRule",
        "rule.currency_code",
        "empty",
        Legal,
        "the rule of every currency without one of its own",
    ),
    one("Rules/SetRule", "rule.currency_code", "another one", Legal, "a rule of another currency"),
    one("Rules/SetRule", "rule.threshold", "0", Legal, "everything is looked at"),
    one("Rules/SetRule", "rule.threshold", "the most", Legal, "nothing is looked at"),
    // Steps.
    one("*", "items", "the same twice", Legal, "a repeat in one slice is a repeat"),
    one("*", "items[0].header.attempt", "*", Legal, FOR_LOGS),
    one("*", "items[0].header.epoch", "*", Legal, FOR_LOGS),
    one("*", "items[0].header.trace", "*", Legal, FOR_LOGS),
    one("*", "items[0].header.remaining_ms", "*", Legal, "0 means no limit, and there is no longest"),
    one(
        "OrderSteps/*",
        "items[0].header.saga_id",
        "nobody's",
        Names("items[0].order_id"),
        "an order and its saga share the UUID",
    ),
    one(
        "OrderSteps/*",
        "items[0].header.saga_id",
        "nil",
        Names("items[0].order_id"),
        "an order and its saga share the UUID",
    ),
    one(
        "InventorySteps/Commit",
        "items[0].header.saga_id",
        "nobody's",
        Fails,
        "nothing was reserved; after the pivot nothing can be refused",
    ),
    one(
        "InventorySteps/Commit",
        "items[0].header.saga_id",
        "nil",
        Legal,
        "nil is an id like another, and was reserved above",
    ),
    one(
        "InventorySteps/Release",
        "items[0].header.saga_id",
        "nil",
        Fails,
        "and committed: what is sold cannot be released",
    ),
    one("*", "items[0].header.saga_id", "nobody's", Legal, SAGA_TO_COME),
    one("*", "items[0].header.saga_id", "nil", Legal, SAGA_TO_COME),
    one("PaymentSteps/Refund", "items[0].order_id", "*", Legal, "a refund is found by its header alone"),
    one("OrderSteps/*", "items[0].order_id", "*", Refused, "an order and its saga share the UUID"),
    one("*", "items[0].order_id", "nobody's", Legal, SAGA_TO_COME),
    one("*", "items[0].order_id", "nil", Legal, SAGA_TO_COME),
    one("RiskSteps/Screen", "items[0].order_id", "empty", Legal, "a saga need not be of an order"),
    one("LedgerSteps/*", "items[0].order_id", "empty", Legal, "a saga need not be of an order"),
    one("*", "items[0].reason", "*", Legal, REMARK),
    one("OrderSteps/*", "items[0].history", "empty", Legal, "a history may be short"),
    one("OrderSteps/*", "items[0].history", "the same twice", Legal, "a take-over may tell the times again"),
    one(
        "OrderSteps/Open",
        "items[0].currency_code",
        "another one",
        Legal,
        "Open stores the prices it is given",
    ),
    one(
        "OrderSteps/Open",
        "items[0].lines",
        "the same twice",
        Names("items[0].subtotal_minor"),
        "the sums are not theirs",
    ),
    one("InventorySteps/Reserve", "items[0].lines", "the same twice", Legal, "the same SKU twice is summed"),
    one(
        "InventorySteps/Reserve",
        "items[0].lines[0].quantity",
        "the most",
        Legal,
        "refused as OUT_OF_STOCK, which is an answer",
    ),
    one("RiskSteps/Screen", "items[0].amount.minor_units", "0", Legal, "what costs nothing may be screened"),
    one("RiskSteps/Screen", "items[0].amount.minor_units", "the most", Legal, "a person looks at it"),
    one("RiskSteps/Screen", "items[0].amount.currency_code", "another one", Legal, "it is a currency"),
    one(
        "PaymentSteps/Charge",
        "items[0].amount.minor_units",
        "the most",
        Legal,
        "how much is too much is the provider's to say",
    ),
    one("PaymentSteps/Charge", "items[0].amount.currency_code", "another one", Legal, "it is a currency"),
    one(
        "PaymentSteps/Charge",
        "items[0].card.token",
        "no such token",
        Legal,
        "only the provider knows its tokens",
    ),
    one(
        "LedgerSteps/Post",
        "items[0].total.minor_units",
        "the most",
        Fails,
        "an account's sums have 64 bits: what does not fit fails alone",
    ),
    one(
        "LedgerSteps/Post",
        "items[0].total.minor_units",
        "0",
        Names("items[0].tax_minor"),
        "the tax is more than the total",
    ),
    one("LedgerSteps/Post", "items[0].total.currency_code", "another one", Legal, "it is a currency"),
    one("LedgerSteps/Post", "items[0].tax_minor", "0", Legal, "some owe no tax"),
    one(
        "LedgerSteps/Post",
        "items[0].payment_id",
        "nobody's",
        Legal,
        "the ledger knows no payments but those it books",
    ),
    one(
        "LedgerSteps/Post",
        "items[0].payment_id",
        "nil",
        Legal,
        "the ledger knows no payments but those it books",
    ),
];

fn fits(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(end), _) => text.ends_with(end),
        (None, Some(begin)) => text.starts_with(begin),
        (None, None) => pattern == text,
    }
}

/// Which exception, if any, is made for this value.
#[must_use]
pub fn exception(method: &str, field: &str, how: &str) -> Option<usize> {
    EXCEPTIONS.iter().position(|e| fits(e.method, method) && fits(e.field, field) && fits(e.how, how))
}
