#!/usr/bin/env bash
# cbor-sync reads CBOR tag 1, which counts seconds, as milliseconds, and tag 3 (a negative
# bignum) as bytes without their sign. cbor-x reads the same bytes as RFC 8949 says.
# Software: npm cbor-sync 1.0.4, npm cbor-x 1.6.9, Node.js 20. Seen on 2026-11-30:
#> 1(1704067200)     cbor-x    2024-01-01T00:00:00.000Z
#> 1(1704067200)     cbor-sync 1970-01-20T17:21:07.200Z
#> -(2**64)-1        cbor-x    -18446744073709551617
#> -(2**64)-1        cbor-sync bytes 010000000000000000
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts cbor-sync@1.0.4 cbor-x@1.6.9
node --input-type=module > seen <<'JS'
import sync from 'cbor-sync';
import { decode } from 'cbor-x';
const show = (v) => v instanceof Date ? v.toISOString() : v instanceof Uint8Array ? 'bytes ' + Buffer.from(v).toString('hex') : String(v);
for (const [name, hex] of [['1(1704067200)', 'c11a65920080'], ['-(2**64)-1', 'c349010000000000000000']]) {
  const bytes = Buffer.from(hex, 'hex');
  console.log(name.padEnd(17), 'cbor-x   ', show(decode(bytes)));
  console.log(name.padEnd(17), 'cbor-sync', show(sync.decode(bytes)));
}
JS
diff <(sed -n 's/^#> //p' "$self") seen
