-- The books, sealed: every transaction goes, soon after its commit, into a block that is chained to the block before it.
--
-- Whoever books pays for two columns with constant defaults and one index entry. Where a transaction stands in the order
-- of sealing follows from the database's own number for it: what is below the oldest number still under way is final,
-- whatever order things committed in. The release before goes on booking without knowing of any of this.

-- Numbers start again in a cluster that was restored from a dump (not after pg_upgrade, nor on a standby). An era is what
-- one such count lasts; `amends provision` begins the next.
create table ledger.era (
    era smallint constraint era_pk primary key,
    create_time timestamptz not null default now()
);
insert into ledger.era (era) values (0);

-- Neither default is volatile, so no row is rewritten: what is there already gets the number of this migration.
alter table ledger.transaction
    add column era smallint not null default 0,
    add column xid xid8 not null default pg_current_xact_id();
create unique index transaction_sealing on ledger.transaction (era, xid, transaction_id);

-- A block holds the transactions behind the end of the block before it, up to its own end, in the order of
-- (era, xid, transaction_id). Its hash says what they are, and which block it follows.
create table ledger.block (
    block_no bigint constraint block_pk primary key constraint block_no_positive check (block_no > 0),
    -- Of the rule by which `hash` was made.
    rule smallint not null,
    -- The hash of the block before; zeros for the first. Unique: a chain has no forks.
    previous bytea not null constraint block_follows_one unique,
    hash bytea not null constraint block_hash_unique unique,
    last_era smallint not null,
    last_xid xid8 not null,
    last_transaction_id uuid not null,
    transactions bigint not null constraint block_not_empty check (transactions > 0),
    create_time timestamptz not null,
    constraint block_hashes_whole check (octet_length(previous) = 32 and octet_length(hash) = 32)
);

create trigger block_history before update or delete or truncate on ledger.block
    for each statement execute function ledger.keep_history();
create trigger era_history before update or delete or truncate on ledger.era
    for each statement execute function ledger.keep_history();

-- Begins an era if the cluster's numbers started again; the owner calls it whenever it provisions. A transaction that is
-- seen has a number below the snapshot's end, unless it was numbered by another cluster.
create function ledger.follow_restore() returns void language plpgsql as $$
declare
    present smallint := (select max(era) from ledger.era);
begin
    if exists (
        select from ledger.transaction where era = present and xid >= pg_snapshot_xmax(pg_current_snapshot())
    ) then
        -- Waits for whoever books, so that nobody is left in the old era.
        execute format('alter table ledger.transaction alter column era set default %s', present + 1);
        insert into ledger.era (era) values (present + 1);
    end if;
end
$$;
