-- Each transaction that was touched is looked up by its key. Written as a join, its plan could be one that reads all
-- transactions for each statement: it is kept, and was made when there were few.
create or replace function ledger.keep_balanced() returns trigger language plpgsql as $$
declare
    wrong uuid;
begin
    select touched.transaction_id into wrong
    from (select distinct transaction_id from entered) touched
    where (select t.transaction_id from ledger.transaction t where t.transaction_id = touched.transaction_id) is null
    limit 1;
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
