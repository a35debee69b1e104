-- Deliveries: what customers are told, one row per event.

create table notifications.delivery (
    -- The event's id: an event that comes again finds its row.
    delivery_id uuid constraint delivery_pk primary key,
    order_id uuid not null,
    -- The saga's version at the event: newer events of an order have higher ones.
    version bigint not null,
    template text not null constraint delivery_template_known check (
        template in ('order.completed', 'order.cancelled', 'order.under_review', 'order.awaiting_payment')
    ),
    recipient text not null,
    subject text not null,
    body text not null,
    state text not null constraint delivery_state_known check (state in ('QUEUED', 'SENT', 'FAILED')),
    -- Begun so far, since it was last queued by a person. With next_time it names a claim.
    attempts integer not null default 0 constraint delivery_attempts_not_negative check (attempts >= 0),
    -- While queued: when it is due. While it is being sent: when somebody else may.
    next_time timestamptz,
    last_error text,
    create_time timestamptz not null,
    send_time timestamptz,
    constraint delivery_is_due check ((state = 'QUEUED') = (next_time is not null)),
    constraint delivery_was_sent check (state <> 'SENT' or send_time is not null)
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create index delivery_due on notifications.delivery (next_time) where state = 'QUEUED';
create index delivery_of_order on notifications.delivery (order_id, create_time, delivery_id);
create index delivery_latest on notifications.delivery (create_time, delivery_id);
