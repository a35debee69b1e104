-- Both questions in one query: what each costs is mostly that it is one.
create or replace function ledger.keep_balanced() returns trigger language plpgsql as $$
declare
    wrong record;
begin
    select touched.transaction_id, touched.amount into wrong
    from (
        select transaction_id, currency, sum(amount_minor) as amount from entered group by transaction_id, currency
    ) touched
    where touched.amount <> 0
        or (select t.transaction_id from ledger.transaction t where t.transaction_id = touched.transaction_id) is null
    limit 1;
    if not found then
        return null;
    end if;
    if wrong.amount <> 0 then
        raise exception 'ledger transaction % does not sum to zero', wrong.transaction_id
            using errcode = 'check_violation', constraint = 'entry_balance', schema = 'ledger', table = 'entry';
    end if;
    raise exception 'there is no ledger transaction %', wrong.transaction_id
        using errcode = 'foreign_key_violation', constraint = 'entry_of_transaction', schema = 'ledger', table = 'entry';
end
$$;
