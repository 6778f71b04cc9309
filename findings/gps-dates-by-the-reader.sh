#!/usr/bin/env bash
# A GGA sentence has a time of day and no date. npm gps adds the date on which the sentence is
# read: what a device sent at 23:59:59 and what is read after midnight, or from a queue, is dated
# a day or more too late. The result looks complete; only RMC and ZDA have a date.
# Software: npm gps 0.9.0, Node.js 20. Seen on 2026-11-30 (the clock is set in the script):
#> sent 235959, read 2026-03-01T00:00:01.000Z: 2026-03-01T23:59:59.000Z
#> sent 120000, read 2026-03-09T12:00:00.000Z: 2026-03-09T12:00:00.000Z
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts gps@0.9.0
TZ=UTC node --input-type=module > seen <<'JS'
import GPS from 'gps';
const Clock = Date;
for (const [sent, now] of [['235959', '2026-03-01T00:00:01.000Z'], ['120000', '2026-03-09T12:00:00.000Z']]) {
  globalThis.Date = class extends Clock { constructor(...args) { super(...(args.length ? args : [now])); } };
  const body = `GPGGA,${sent},4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,`;
  const sum = [...body].reduce((sum, c) => sum ^ c.charCodeAt(0), 0).toString(16).toUpperCase().padStart(2, '0');
  console.log(`sent ${sent}, read ${now}:`, (GPS.default ?? GPS).Parse(`$${body}*${sum}`).time.toISOString());
}
JS
diff <(sed -n 's/^#> //p' "$self") seen
