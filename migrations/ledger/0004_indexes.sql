-- Messages are swept in the order of their ids, which follow time: the primary key serves that.
drop index ledger.outbox_due;

-- An entry is found by its transaction or by its account, never by its id alone: one index instead of two.
alter table ledger.entry drop constraint entry_pk;
alter table ledger.entry add constraint entry_pk primary key (transaction_id, entry_id);
drop index ledger.entry_transaction;
