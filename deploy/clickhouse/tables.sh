#!/bin/bash
# The official image runs what lies in docker-entrypoint-initdb.d when its volume is new.
set -euo pipefail
clickhouse-client --user "$CLICKHOUSE_USER" --password "$CLICKHOUSE_PASSWORD" --database "$CLICKHOUSE_DB" \
  --queries-file /tables.sql
