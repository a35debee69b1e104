-- Screening: rules kept as rows, who is denied, and the record of every step that was screened.

create table risk.rule (
    kind text not null constraint rule_kind_known check (kind in ('AMOUNT_REVIEW', 'VELOCITY_REVIEW')),
    -- Empty: every currency without a rule of its own.
    currency text not null constraint rule_currency_form check (currency = '' or currency ~ '^[A-Z]{3}$'),
    -- AMOUNT_REVIEW: from this amount on somebody looks; minor units of the currency, or of two decimals where it is
    -- empty. VELOCITY_REVIEW: orders of one customer that pass within the window; the next one is looked at.
    threshold bigint not null constraint rule_threshold_not_negative check (threshold >= 0),
    window_seconds bigint not null,
    enabled boolean not null,
    update_time timestamptz not null,
    constraint rule_pk primary key (kind, currency),
    constraint rule_window_is_velocitys check ((kind = 'VELOCITY_REVIEW') = (window_seconds > 0)),
    constraint rule_velocity_has_no_currency check (kind <> 'VELOCITY_REVIEW' or currency = '')
);

-- Velocity is off until somebody has chosen a number that fits the trade.
insert into risk.rule (kind, currency, threshold, window_seconds, enabled, update_time) values
    ('AMOUNT_REVIEW', '', 1000000, 0, true, now()),
    ('VELOCITY_REVIEW', '', 1000, 60, false, now());

create table risk.denied (
    customer_id text constraint denied_pk primary key,
    reason text not null,
    create_time timestamptz not null
);

-- One row is one screened step: the barrier of its one direction (there is nothing to take back), and, where a rule
-- asked for it, the review.
create table risk.screening (
    saga_id uuid not null,
    step text not null,
    forward_outcome text not null
        constraint screening_forward_known check (forward_outcome in ('PENDING', 'DONE', 'REFUSED')),
    forward_hash bytea not null,
    -- ScreenDone or Refused, as it went out.
    forward_reply bytea,
    order_id uuid,
    customer_id text collate "C" not null,
    merchant_id text not null,
    amount_minor bigint not null constraint screening_amount_not_negative check (amount_minor >= 0),
    currency char(3) not null,
    create_time timestamptz not null,
    -- The review: null where no rule asked for one.
    review_state text
        constraint screening_review_known check (review_state in ('OPEN', 'APPROVED', 'DECLINED', 'EXPIRED')),
    rule text,
    expire_time timestamptz,
    reviewer text,
    review_reason text,
    decide_time timestamptz,
    -- W3C traceparent, for the answer to come.
    trace text,
    constraint screening_pk primary key (saga_id, step),
    constraint screening_has_reply check ((forward_reply is null) = (forward_outcome = 'PENDING')),
    constraint screening_waits_for_review check ((forward_outcome = 'PENDING') = (review_state is not distinct from 'OPEN')),
    constraint screening_review_agrees check (
        case review_state when 'APPROVED' then forward_outcome = 'DONE'
                          when 'DECLINED' then forward_outcome = 'REFUSED'
                          when 'EXPIRED' then forward_outcome = 'REFUSED' else true end
    ),
    constraint screening_review_is_whole check (
        (review_state is null) = (rule is null) and (review_state is null) = (expire_time is null)
        and (decide_time is not null) = (review_state in ('APPROVED', 'DECLINED', 'EXPIRED') and review_state is not null)
        and (reviewer is not null) = (review_state in ('APPROVED', 'DECLINED') and review_state is not null)
    )
) with (fillfactor = 60);
-- Velocity: how many orders of a customer there were lately.
create index screening_customer on risk.screening (customer_id, create_time);
-- Few rows have a review: what people list, and what is due.
create index screening_review on risk.screening (review_state, create_time, saga_id, step) where review_state is not null;
create index screening_due on risk.screening (expire_time) where review_state = 'OPEN';

create table risk.outbox (
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
create index outbox_due on risk.outbox (create_time) where dead_time is null;
