-- The book of the provider simulator: what really happened to the money, whatever payment-svc believes.
create table simulator.charge (
  idempotency_key text constraint charge_pk primary key,
  reference text not null constraint charge_reference unique,
  amount_minor bigint not null constraint charge_amount_positive check (amount_minor > 0),
  currency char(3) not null,
  -- How it behaves: what the token stood for.
  manner text not null,
  -- Of what was asked: the same key with another body is refused.
  body_hash bytea not null,
  -- RECEIVED: heard of, without effect. PENDING takes effect by itself at effect_time.
  state text not null constraint charge_state_known check (state in ('RECEIVED', 'PENDING', 'CHARGED', 'DECLINED')),
  decline_code text,
  sends integer not null,
  effect_time timestamptz
    constraint charge_effect_has_time check ((effect_time is not null) = (state in ('PENDING', 'CHARGED'))),
  create_time timestamptz not null
) with (fillfactor = 60);

create table simulator.refund (
  idempotency_key text constraint refund_pk primary key,
  reference text not null constraint refund_reference unique,
  charge_reference text not null
    constraint refund_charge references simulator.charge (reference),
  amount_minor bigint not null constraint refund_amount_positive check (amount_minor > 0),
  currency char(3) not null,
  body_hash bytea not null,
  state text not null constraint refund_state_known check (state in ('RECEIVED', 'REFUNDED')),
  sends integer not null,
  effect_time timestamptz
    constraint refund_effect_has_time check ((effect_time is not null) = (state = 'REFUNDED')),
  create_time timestamptz not null
) with (fillfactor = 60);
create index refund_of_charge on simulator.refund (charge_reference);

-- For the auditor: per charge key, what was taken and what was given back.
create view simulator.book as
select c.idempotency_key, split_part(c.idempotency_key, ':', 1) as payment, c.currency,
  case when c.state = 'CHARGED' or (c.state = 'PENDING' and c.effect_time <= now()) then c.amount_minor else 0 end
    as charged_minor,
  coalesce((select sum(r.amount_minor) from simulator.refund r
            where r.charge_reference = c.reference and r.state = 'REFUNDED'), 0)::bigint as refunded_minor
from simulator.charge c;
