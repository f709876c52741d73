#!/usr/bin/env bash
# Accounts beside the owner: workers read and write rows, the dashboard reads. Neither makes, changes or drops tables.
# Runs once, when the database is made.
set -euo pipefail

psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    -v owner="$POSTGRES_USER" -v database="$POSTGRES_DB" \
    -v worker="$(< /run/secrets/db_worker)" -v viewer="$(< /run/secrets/db_viewer)" <<'SQL'
CREATE ROLE archsearch_worker LOGIN PASSWORD :'worker';
CREATE ROLE archsearch_viewer LOGIN PASSWORD :'viewer';
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO archsearch_worker, archsearch_viewer;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO archsearch_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO archsearch_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT ON TABLES TO archsearch_viewer;
ALTER ROLE archsearch_viewer SET default_transaction_read_only = on;
ALTER ROLE archsearch_worker SET statement_timeout = '60s';
ALTER ROLE archsearch_worker SET lock_timeout = '30s';
ALTER ROLE archsearch_worker SET idle_in_transaction_session_timeout = '60s';
SQL
