#!/usr/bin/env bash
# npm cbor writes every BigInt as a bignum (tag 2, bytes), also 10n, which fits into one byte;
# npm cbor2, its successor by the same author, writes an integer. A reader that takes major
# type 0 only finds no number in what npm cbor sends for a 64-bit counter. 2**53 as a Number
# leaves both libraries as a float of four bytes.
# Software: npm cbor 10.0.12, npm cbor2 2.3.0, Node.js 20. Seen on 2026-11-30:
#> 10n                  cbor c2410a               cbor2 0a
#> 9007199254740993n    cbor c24720000000000001   cbor2 1b0020000000000001
#> 9007199254740992     cbor fa5a000000           cbor2 fa5a000000
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts cbor@10.0.12 cbor2@2.3.0
node --input-type=module > seen <<'JS'
import cbor from 'cbor';
import { encode } from 'cbor2';
const hex = (bytes) => Buffer.from(bytes).toString('hex');
for (const v of [10n, 2n ** 53n + 1n, 2 ** 53]) {
  const name = typeof v === 'bigint' ? `${v}n` : String(v);
  console.log(name.padEnd(20), 'cbor', hex(cbor.encode(v)).padEnd(20), 'cbor2', hex(encode(v)));
}
JS
sed -i 's/ *$//' seen
diff <(sed -n 's/^#> //p' "$self") seen
