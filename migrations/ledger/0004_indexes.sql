-- Messages are swept in the order of their ids, which follow time: the primary key serves that.
drop index ledger.outbox_due;
