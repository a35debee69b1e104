-- One row per (saga, step): the charge, its barrier, and its way back.
create table payments.attempt (
  saga_id uuid not null,
  step text not null,
  payment_id uuid not null,
  state text not null
    constraint attempt_state_known check (state in
      ('STARTED', 'PENDING', 'IN_DOUBT', 'SUCCEEDED', 'DECLINED', 'REFUNDING', 'REFUNDED', 'BLOCKED')),
  -- The barrier. PENDING (either way): somebody was told to wait, and is owed a message.
  forward_outcome text not null
    constraint attempt_forward_known check (forward_outcome in ('STARTED', 'PENDING', 'DONE', 'REFUSED', 'BLOCKED')),
  forward_hash bytea,
  forward_reply bytea,
  back_outcome text
    constraint attempt_back_known check (back_outcome in ('STARTED', 'PENDING', 'DONE', 'BLOCKED')),
  back_reply bytea,
  -- Message ids of the commands that wait for the taking back, 16 bytes each.
  back_commands bytea
    constraint attempt_commands_whole check (octet_length(back_commands) % 16 = 0),
  order_id uuid,
  customer_id text,
  merchant_id text,
  amount_minor bigint
    constraint attempt_amount_positive check (amount_minor > 0),
  currency char(3),
  provider text,
  -- What the provider knows the card by. Kept only while the charge may have to be sent again.
  token text,
  provider_reference text,
  refund_reference text,
  decline_code text,
  decline_category text,
  -- Each send is stamped before it leaves. `sent_time` is the last stamp of the charge or, later, of the refund; null
  -- when it is known that nothing is under way.
  sends integer not null,
  refund_sends integer not null default 0,
  -- A provider forgets a key: a refund that is still owed then goes under the next one.
  refund_keys integer not null default 1,
  sent_time timestamptz,
  refund_time timestamptz,
  -- When the provider is asked next, and how often it was asked in a row.
  next_look_time timestamptz,
  looks integer not null default 0,
  create_time timestamptz not null,
  update_time timestamptz not null,
  constraint attempt_pk primary key (saga_id, step),
  constraint attempt_payment unique (payment_id),
  -- A tombstone says nothing about business; everything else says all of it.
  constraint attempt_tombstone check (
    case when forward_hash is null
      then state = 'BLOCKED' and forward_outcome = 'BLOCKED' and back_outcome = 'BLOCKED' and sends = 0
        and num_nonnulls(order_id, customer_id, merchant_id, amount_minor, currency, provider, token) = 0
      else forward_outcome <> 'BLOCKED'
        and num_nulls(order_id, customer_id, merchant_id, amount_minor, currency, provider) = 0
    end),
  constraint attempt_token_while_open check (token is null or state in ('STARTED', 'PENDING', 'IN_DOUBT')),
  -- What is under way is looked after, whoever dies.
  constraint attempt_looked_after check (
    next_look_time is not null or state in ('SUCCEEDED', 'DECLINED', 'REFUNDED', 'BLOCKED')),
  constraint attempt_back_answered check (
    back_outcome is distinct from 'DONE' or (state = 'REFUNDED' and back_reply is not null))
) with (fillfactor = 60);

create index attempt_due on payments.attempt (next_look_time) where next_look_time is not null;
create index attempt_by_state on payments.attempt (state, saga_id, step) where state <> 'SUCCEEDED';

create table payments.outbox (
  outbox_id uuid constraint outbox_pk primary key,
  exchange text not null constraint outbox_exchange_known check (exchange in ('commands', 'replies', 'events')),
  routing_key text not null, kind text not null, body bytea not null, headers text not null,
  create_time timestamptz not null, attempt integer not null default 0,
  not_before timestamptz, dead_time timestamptz, dead_reason text
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
create index outbox_due on payments.outbox (create_time) where dead_time is null;
