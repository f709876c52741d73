#!/usr/bin/env bash
# A backup from standard input, in the place of what the database holds. Stop the workers before.
set -euo pipefail
PGPASSWORD=$(< /run/secrets/db_owner)
export PGPASSWORD
exec pg_restore --host=db --username=archsearch_owner --dbname=archsearch \
    --clean --if-exists --single-transaction --exit-on-error
