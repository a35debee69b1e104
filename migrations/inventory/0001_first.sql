-- Stock, what sagas hold of it, and what was ever put in. Run by chassis' migrator, which made the schema before.

-- One row per SKU, hot: written once per batch with the sum. Whatever happens, no counter may pass below zero.
create table inventory.stock (
    sku text collate "C" not null,
    available bigint not null,
    reserved bigint not null,
    sold bigint not null,
    version bigint not null,
    update_time timestamptz not null,
    constraint stock_pk primary key (sku),
    constraint stock_available_not_negative check (available >= 0),
    constraint stock_reserved_not_negative check (reserved >= 0),
    constraint stock_sold_not_negative check (sold >= 0)
) with (fillfactor = 60);

-- What was put in, for ever: available + reserved + sold of a SKU is the sum of its rows here. The request id makes
-- a repeat harmless.
create table inventory.restock (
    request_id text not null,
    sku text collate "C" not null,
    quantity bigint not null,
    create_time timestamptz not null,
    constraint restock_pk primary key (request_id),
    constraint restock_quantity_positive check (quantity > 0)
);

-- One row per reserve step: the reservation, and the barriers of Reserve (forward), Release (back) and Commit.
create table inventory.reservation (
    saga_id uuid not null,
    step text not null,
    order_id uuid,
    skus text[],
    quantities bigint[],
    hold_until timestamptz,
    forward_outcome text not null,
    forward_hash bytea,
    forward_reply bytea,
    back_outcome text,
    back_reply bytea,
    commit_step text,
    commit_outcome text,
    commit_hash bytea,
    commit_reply bytea,
    -- Follows from the outcomes; nobody writes it.
    state text generated always as (
        case
            when forward_outcome <> 'DONE' then null
            when back_outcome = 'DONE' then 'RELEASED'
            when commit_outcome = 'DONE' then 'SOLD'
            else 'RESERVED'
        end
    ) stored,
    create_time timestamptz not null,
    update_time timestamptz not null,
    constraint reservation_pk primary key (saga_id, step),
    constraint reservation_forward_known check (forward_outcome in ('DONE', 'REFUSED', 'BLOCKED')),
    constraint reservation_back_known check (back_outcome in ('DONE', 'BLOCKED')),
    constraint reservation_commit_known check (commit_outcome = 'DONE'),
    constraint reservation_state_known check (state in ('RESERVED', 'SOLD', 'RELEASED')),
    constraint reservation_tombstone_is_empty check (
        case
            when forward_outcome = 'BLOCKED' then back_outcome = 'BLOCKED'
                and num_nonnulls(order_id, skus, quantities, hold_until, forward_hash, forward_reply) = 0
            else num_nulls(order_id, skus, quantities, hold_until, forward_hash, forward_reply) = 0
        end
    ),
    constraint reservation_lines_pair check (cardinality(skus) = cardinality(quantities)),
    constraint reservation_taken_back_is_what_was_done check (
        (back_outcome is null) = (back_reply is null) and (back_outcome = 'DONE') = (forward_outcome = 'DONE')
    ),
    constraint reservation_sold_is_not_released check (
        num_nonnulls(commit_step, commit_outcome, commit_hash, commit_reply) in (0, 4)
        and (commit_outcome is null or (forward_outcome = 'DONE' and back_outcome is null))
    )
) with (fillfactor = 60);

-- For the look at holds that are past their time.
create index reservation_held on inventory.reservation (hold_until) where state = 'RESERVED';

create table inventory.outbox (
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

create index outbox_due on inventory.outbox (create_time) where dead_time is null;
