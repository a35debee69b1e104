-- The orchestrator's own: sagas and their journal, shards and who owns them, signals, idempotency keys, and the
-- projection that the order API reads.

-- Hot and narrow: one row per saga, updated by compare-and-set on `version`. What the saga is about stands in the first
-- journal row and never changes.
create table orchestrator.saga (
    saga_id uuid constraint saga_pk primary key,
    shard_id smallint not null,
    kind text not null,
    definition_version integer not null,
    definition_hash bigint not null,
    version bigint not null constraint saga_version_positive check (version > 0),
    commit_id uuid not null,
    epoch bigint not null,
    state text not null
        constraint saga_state_known check (state in ('RUNNING', 'WAITING', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'PARKED', 'PAUSED')),
    reason text not null default '',
    ended boolean not null default false,
    resumes integer not null default 0,
    resume_time timestamptz,
    create_time timestamptz not null,
    update_time timestamptz not null
) with (fillfactor = 60);
-- Only work at hand is looked for by shard.
create index saga_open on orchestrator.saga (shard_id) where not ended;
create index saga_by_state on orchestrator.saga (state, saga_id) where not ended;

create table orchestrator.journal (
    saga_id uuid not null,
    version bigint not null,
    epoch bigint not null,
    commit_id uuid not null,
    events text not null,
    create_time timestamptz not null,
    constraint journal_pk primary key (saga_id, version)
);

create table orchestrator."order" (
    order_id uuid constraint order_pk primary key,
    customer_id text not null,
    merchant_id text not null,
    currency char(3) not null,
    total_minor bigint not null,
    status text not null
        constraint order_status_known check (status in ('CREATED', 'INVENTORY_RESERVED', 'PAYMENT_SUCCESS', 'COMPLETED', 'CANCELLED', 'UNDER_REVIEW', 'AWAITING_PAYMENT')),
    status_reason text not null default '',
    status_metadata text not null default '{}',
    cancel_requested boolean not null default false,
    version bigint not null,
    create_time timestamptz not null,
    update_time timestamptz not null
) with (fillfactor = 60);
create index order_by_merchant on orchestrator."order" (merchant_id, order_id);
create index order_by_customer on orchestrator."order" (customer_id, order_id);

-- Postgres alone decides which of two requests with one key is the first.
create table orchestrator.idempotency_key (
    merchant_id text not null,
    request_key text not null,
    fingerprint bytea not null,
    order_id uuid not null,
    create_time timestamptz not null,
    constraint idempotency_key_pk primary key (merchant_id, request_key)
);
create index idempotency_key_by_time on orchestrator.idempotency_key (create_time);

-- Everything said to a saga from outside its driver. Stored by any instance, read by the owner.
create table orchestrator.signal (
    signal_id uuid constraint signal_pk primary key,
    saga_id uuid not null,
    kind text not null,
    body bytea not null,
    create_time timestamptz not null default now(),
    read_time timestamptz
) with (fillfactor = 60);
create index signal_unread on orchestrator.signal (create_time) where read_time is null;
create index signal_by_saga on orchestrator.signal (saga_id) where read_time is null;

-- Leases stand apart from fences, so that renewing one never waits for a commit.
create table orchestrator.instance (
    instance_id uuid constraint instance_pk primary key,
    counter bigint not null,
    definitions text not null,
    address text not null,
    start_time timestamptz not null default now()
) with (fillfactor = 50);

create table orchestrator.shard (
    shard_id smallint constraint shard_pk primary key,
    owner_id uuid,
    -- False while an owner holds it; a release sets it, a death does not.
    released boolean not null default true
) with (fillfactor = 50);

create table orchestrator.fence (
    shard_id smallint constraint fence_pk primary key,
    epoch bigint not null
) with (fillfactor = 50);

insert into orchestrator.shard (shard_id) select generate_series(0, 15);
insert into orchestrator.fence (shard_id, epoch) select generate_series(0, 15), 0;

create table orchestrator.outbox (
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
create index outbox_due on orchestrator.outbox (create_time) where dead_time is null;
