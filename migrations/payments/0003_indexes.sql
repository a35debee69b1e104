-- Messages are swept in the order of their ids, which follow time: the primary key serves that.
drop index payments.outbox_due;

-- Every charge is STARTED for a moment, and is found by when it is due; it need not be entered here as well.
drop index payments.attempt_by_state;
create index attempt_aside on payments.attempt (state, saga_id, step) where state not in ('STARTED', 'SUCCEEDED');
