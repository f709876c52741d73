#!/usr/bin/env bash
# The whole database to standard output, in pg_dump's own format, while everything runs.
set -euo pipefail
PGPASSWORD=$(< /run/secrets/db_owner)
export PGPASSWORD
exec pg_dump --host=db --username=archsearch_owner --format=custom archsearch
