-- A withdrawal that comes before its screening: the tombstone of a step that can never run, so that nobody is asked about
-- a saga that has turned round. It says nothing about business. What is there already is looked at by the next migration,
-- which locks nobody out.

alter table risk.screening
    alter column forward_hash drop not null,
    alter column customer_id drop not null,
    alter column merchant_id drop not null,
    alter column amount_minor drop not null,
    alter column currency drop not null,
    drop constraint screening_forward_known,
    drop constraint screening_has_reply,
    add constraint screening_forward_known
        check (forward_outcome in ('PENDING', 'DONE', 'REFUSED', 'BLOCKED')) not valid,
    add constraint screening_has_reply
        check ((forward_reply is null) = (forward_outcome in ('PENDING', 'BLOCKED'))) not valid,
    add constraint screening_tombstone_is_empty check (
        case
            when forward_outcome = 'BLOCKED' then num_nonnulls(order_id, forward_hash, customer_id, merchant_id,
                amount_minor, currency, review_state, rule, expire_time, trace) = 0
            else num_nulls(forward_hash, customer_id, merchant_id, amount_minor, currency) = 0
        end
    ) not valid;
