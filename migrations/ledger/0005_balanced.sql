-- A statement adds entries that come to zero for each transaction and currency. Since every statement does, every
-- transaction does, and what stands there from before need not be read again.
create or replace function ledger.keep_balanced() returns trigger language plpgsql as $$
declare
    wrong uuid;
begin
    select touched.transaction_id into wrong
    from (select distinct transaction_id from entered) touched
    left join ledger.transaction t on t.transaction_id = touched.transaction_id
    where t.transaction_id is null limit 1;
    if found then
        raise exception 'there is no ledger transaction %', wrong
            using errcode = 'foreign_key_violation', constraint = 'entry_of_transaction', schema = 'ledger', table = 'entry';
    end if;
    select transaction_id into wrong from entered
    group by transaction_id, currency having sum(amount_minor) <> 0 limit 1;
    if found then
        raise exception 'ledger transaction % does not sum to zero', wrong
            using errcode = 'check_violation', constraint = 'entry_balance', schema = 'ledger', table = 'entry';
    end if;
    return null;
end
$$;
