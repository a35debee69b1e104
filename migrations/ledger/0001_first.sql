-- The books: double entry, append-only.

-- Which type an account gets when it is opened: the only pattern (of `like`) that its id matches.
create table ledger.chart (
    pattern text constraint chart_pk primary key,
    type text not null constraint chart_type_known check (type in ('ASSET', 'LIABILITY', 'EQUITY', 'REVENUE', 'EXPENSE')),
    note text not null
);

insert into ledger.chart (pattern, type, note) values
    ('provider\_clearing:___', 'ASSET', 'what payment providers hold for us'),
    ('merchant:%:___', 'LIABILITY', 'what we owe a merchant'),
    ('tax\_payable:___', 'LIABILITY', 'what we owe the tax office'),
    ('suspense:___', 'LIABILITY', 'what came and went without a sale');

-- Compared byte by byte, so that the order of locks is the order in which the service sorts.
create table ledger.account (
    account_id text collate "C" constraint account_pk primary key,
    type text not null constraint account_type_known check (type in ('ASSET', 'LIABILITY', 'EQUITY', 'REVENUE', 'EXPENSE')),
    currency char(3) not null,
    debits_minor bigint not null default 0 constraint account_debits_not_negative check (debits_minor >= 0),
    credits_minor bigint not null default 0 constraint account_credits_not_negative check (credits_minor >= 0),
    closed boolean not null default false,
    -- When and why it was closed or reopened last; null if never.
    state_time timestamptz,
    state_reason text,
    version bigint not null default 1,
    create_time timestamptz not null,
    update_time timestamptz not null,
    constraint account_ends_with_currency check (right(account_id, 4) = ':' || currency),
    constraint account_state_has_reason check ((state_time is null) = (state_reason is null)),
    constraint account_closed_has_reason check (not closed or state_time is not null)
) with (fillfactor = 60);

-- One row is one side of the barrier of a step, and the transaction that was its effect. Rows are only ever added:
--   POST     DONE      the step was booked
--   POST     REFUSED   it was refused, and stays so
--   POST     BLOCKED   a tombstone: its compensation came first
--   REVERSE  DONE      it was taken back, by entries of its own
--   REVERSE  BLOCKED   there was nothing to take back
--   SUSPENSE DONE      a charge without a sale, and its refund; `step` is the charge's
-- A step with a REVERSE row is fenced, whatever its POST row says.
create table ledger.transaction (
    -- Derives from (saga_id, step, kind).
    transaction_id uuid constraint transaction_pk primary key,
    saga_id uuid not null,
    step text not null,
    kind text not null constraint transaction_kind_known check (kind in ('POST', 'REVERSE', 'SUSPENSE')),
    outcome text not null constraint transaction_outcome_known check (outcome in ('DONE', 'REFUSED', 'BLOCKED')),
    -- Of what was asked: POST and SUSPENSE. The first byte is the version of the rule.
    hash bytea,
    -- PostDone, Refused or ReverseDone, as it went out.
    reply bytea,
    order_id uuid,
    payment_id uuid,
    reason text,
    create_time timestamptz not null,
    constraint transaction_barrier unique (saga_id, step, kind),
    constraint transaction_refused_is_post check (outcome <> 'REFUSED' or kind = 'POST'),
    constraint transaction_suspense_is_done check (kind <> 'SUSPENSE' or outcome = 'DONE'),
    constraint transaction_has_reply check ((reply is not null) = (outcome <> 'BLOCKED' and kind <> 'SUSPENSE')),
    constraint transaction_has_hash check ((hash is not null) = (outcome <> 'BLOCKED' and kind <> 'REVERSE')),
    constraint transaction_tombstone_is_empty check (
        outcome <> 'BLOCKED' or kind <> 'POST' or (order_id is null and payment_id is null and reason is null)
    )
);

-- No foreign key to the account: it would lock the hot rows once per entry, before and besides the one update by their
-- sum. That update counts the accounts it found, so an entry without an account cannot be committed by the service.
create table ledger.entry (
    entry_id uuid constraint entry_pk primary key,
    transaction_id uuid not null constraint entry_of_transaction references ledger.transaction,
    account_id text collate "C" not null,
    -- Positive: debit. Negative: credit.
    amount_minor bigint not null constraint entry_not_zero check (amount_minor <> 0),
    currency char(3) not null,
    constraint entry_currency_is_the_accounts check (right(account_id, 4) = ':' || currency)
);
create index entry_transaction on ledger.entry (transaction_id);
create index entry_account on ledger.entry (account_id, entry_id);

-- At commit every transaction sums to zero in each currency. Per row, because whoever adds a row to an old
-- transaction must be stopped too.
create function ledger.keep_balance() returns trigger language plpgsql as $$
begin
    if exists (
        select from ledger.entry where transaction_id = new.transaction_id group by currency having sum(amount_minor) <> 0
    ) then
        raise exception 'ledger transaction % does not sum to zero', new.transaction_id
            using errcode = 'check_violation', constraint = 'entry_balance', schema = 'ledger', table = 'entry';
    end if;
    return null;
end
$$;
create constraint trigger entry_balance after insert on ledger.entry
    deferrable initially deferred for each row execute function ledger.keep_balance();

-- The second lock, for whoever has more rights than the service: what is written stays.
create function ledger.keep_history() returns trigger language plpgsql as $$
begin
    raise exception 'ledger.% is append-only: no %', tg_table_name, lower(tg_op)
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'correct a mistake by a transaction of its own';
end
$$;
create trigger transaction_history before update or delete or truncate on ledger.transaction
    for each statement execute function ledger.keep_history();
create trigger entry_history before update or delete or truncate on ledger.entry
    for each statement execute function ledger.keep_history();

create table ledger.outbox (
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
create index outbox_due on ledger.outbox (create_time) where dead_time is null;
