#!/bin/bash
# One database and one role per service. The image runs it once, on an empty data folder, as the server's superuser.
#
# The databases belong to amends_owner, as whom `amends provision` makes the schemas; a service's role may only do in its
# own database what its schema grants. amends_auditor reads everything and writes nothing.
set -euo pipefail

sql() { psql -v ON_ERROR_STOP=1 --quiet --no-psqlrc --username "$POSTGRES_USER" --dbname postgres "$@"; }

sql -v owner="$AMENDS_OWNER_DATABASE_PASSWORD" -v auditor="$AMENDS_AUDITOR_DATABASE_PASSWORD" <<'SQL'
create role amends_owner login password :'owner';
create role amends_auditor login password :'auditor';
grant pg_read_all_data to amends_auditor;
alter role amends_auditor set default_transaction_read_only = on;
SQL

database() { # NAME PASSWORD
  sql -v database="$1" -v role="amends_$1" -v password="$2" <<'SQL'
create role :"role" login password :'password';
create database :"database" owner amends_owner template template0 encoding 'UTF8' locale 'C.UTF-8';
revoke all on database :"database" from public;
grant connect on database :"database" to :"role", amends_auditor;
alter database :"database" set timezone = 'UTC';
SQL
}

database orchestrator "$AMENDS_ORCHESTRATOR_DATABASE_PASSWORD"
database orders "$AMENDS_ORDER_DATABASE_PASSWORD"
database inventory "$AMENDS_INVENTORY_DATABASE_PASSWORD"
database risk "$AMENDS_RISK_DATABASE_PASSWORD"
database payments "$AMENDS_PAYMENT_DATABASE_PASSWORD"
database simulator "$AMENDS_SIMULATOR_DATABASE_PASSWORD"
database ledger "$AMENDS_LEDGER_DATABASE_PASSWORD"
database notifications "$AMENDS_NOTIFICATION_DATABASE_PASSWORD"
