-- Fewer index entries for each order: an entry costs as much as half a row.

-- Messages are swept in the order of their ids, which follow time: the primary key serves that.
drop index orchestrator.outbox_due;

-- Sagas under way are found by shard; those that are anything but RUNNING are few, and asked for by name.
drop index orchestrator.saga_by_state;
create index saga_aside on orchestrator.saga (state, saga_id) where not ended and state <> 'RUNNING';
