#!/usr/bin/env bash
# sparkplug-payload takes a JavaScript Date as the value of a DateTime metric and writes 0:
# the metric says 1970-01-01. Only a number (or Long) of milliseconds is kept. As a metric's
# or payload's timestamp the Date is lost in the same way.
# Software: npm sparkplug-payload 1.0.3, Node.js 20. Seen on 2026-11-30:
#> DateTime as a number: 1700000000123
#> DateTime as a Date: 0
#> metric timestamp as a Date: 0
#> payload timestamp as a Date: 0
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts sparkplug-payload@1.0.3
node --input-type=module > seen <<'JS'
import sparkplug from 'sparkplug-payload';
const b = sparkplug.get('spBv1.0'), ms = 1700000000123, date = new Date(ms);
const trip = (payload) => b.decodePayload(b.encodePayload(payload));
const of = (value, timestamp = ms) => trip({ timestamp: ms, seq: 0, metrics: [{ name: 'm', type: 'DateTime', value, timestamp }] });
console.log('DateTime as a number:', String(of(ms).metrics[0].value));
console.log('DateTime as a Date:', String(of(date).metrics[0].value));
console.log('metric timestamp as a Date:', String(of(ms, date).metrics[0].timestamp));
console.log('payload timestamp as a Date:', String(trip({ timestamp: date, seq: 0, metrics: [] }).timestamp));
JS
diff <(sed -n 's/^#> //p' "$self") seen
