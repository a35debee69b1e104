-- The price list, tax, and the commercial document of each order. Run by chassis' migrator, which made the schema.

create table orders.price (
    sku text collate "C" not null,
    currency char(3) not null,
    title text not null,
    unit_price_minor bigint not null,
    update_time timestamptz not null,
    constraint price_pk primary key (sku, currency),
    constraint price_in_range check (unit_price_minor between 1 and 1000000000000)
);

-- The rate for a merchant and a currency; an empty text stands for every one. The closest row counts, and a merchant
-- counts more than a currency.
create table orders.tax_rate (
    merchant_id text not null,
    currency text not null,
    rate numeric(6, 5) not null,
    constraint tax_rate_pk primary key (merchant_id, currency),
    constraint tax_rate_currency_shaped check (currency ~ '^([A-Z]{3})?$'),
    constraint tax_rate_in_range check (rate between 0 and 1)
);

insert into orders.tax_rate (merchant_id, currency, rate) values ('', '', 0.20);

-- One row per open step: the document, and the barriers of Open (forward), Cancel (back) and Complete.
create table orders.document (
    saga_id uuid not null,
    step text not null,
    order_id uuid,
    customer_id text,
    merchant_id text,
    currency char(3),
    -- JSON: a list of {sku, quantity, unit_price_minor, line_total_minor}.
    lines text,
    subtotal_minor bigint,
    tax_minor bigint,
    total_minor bigint,
    -- JSON: a list of {status, time}.
    history text,
    cancel_reason text,
    forward_outcome text not null,
    forward_hash bytea,
    forward_reply bytea,
    back_outcome text,
    back_reply bytea,
    complete_step text,
    complete_outcome text,
    complete_hash bytea,
    complete_reply bytea,
    -- Follows from the outcomes; nobody writes it.
    status text generated always as (
        case
            when forward_outcome <> 'DONE' then null
            when back_outcome = 'DONE' then 'CANCELLED'
            when complete_outcome = 'DONE' then 'COMPLETED'
            else 'OPEN'
        end
    ) stored,
    create_time timestamptz not null,
    update_time timestamptz not null,
    constraint document_pk primary key (saga_id, step),
    constraint document_forward_known check (forward_outcome in ('DONE', 'BLOCKED')),
    constraint document_back_known check (back_outcome in ('DONE', 'BLOCKED')),
    constraint document_complete_known check (complete_outcome = 'DONE'),
    constraint document_status_known check (status in ('OPEN', 'COMPLETED', 'CANCELLED')),
    constraint document_tombstone_is_empty check (
        case
            when forward_outcome = 'BLOCKED' then back_outcome = 'BLOCKED'
                and num_nonnulls(order_id, customer_id, merchant_id, currency, lines, subtotal_minor, tax_minor,
                    total_minor, history, forward_hash, forward_reply) = 0
            else num_nulls(order_id, customer_id, merchant_id, currency, lines, subtotal_minor, tax_minor,
                    total_minor, history, forward_hash, forward_reply) = 0
        end
    ),
    constraint document_adds_up check (
        subtotal_minor > 0 and tax_minor >= 0 and total_minor = subtotal_minor + tax_minor
    ),
    constraint document_taken_back_is_what_was_done check (
        (back_outcome is null) = (back_reply is null) and (back_outcome = 'DONE') = (forward_outcome = 'DONE')
    ),
    constraint document_completed_is_not_cancelled check (
        num_nonnulls(complete_step, complete_outcome, complete_hash, complete_reply) in (0, 4)
        and (complete_outcome is null or (forward_outcome = 'DONE' and back_outcome is null))
    )
) with (fillfactor = 60);

create table orders.outbox (
    outbox_id uuid constraint outbox_pk primary key,
    exchange text not null constraint outbox_exchange_known check (exchange in ('commands', 'replies', 'events')),
    routing_key text not null,
    kind text not null,
    body bytea not null,
    headers text not null,
    create_time timestamptz not null,
    attempt integer not null default 0,
    not_before timestamptz,
    dead_time timestamptz,
    dead_reason text
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create index outbox_due on orders.outbox (create_time) where dead_time is null;
