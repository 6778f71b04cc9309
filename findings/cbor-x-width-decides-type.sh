#!/usr/bin/env bash
# cbor-x decides by the width on the wire, not by the value, whether an integer is a BigInt:
# 1 in eight bytes (as encoders of fixed width write it) becomes 1n, and a tag 1 time whose
# seconds are in eight bytes is refused. npm cbor reads both.
# Software: npm cbor-x 1.6.9, npm cbor 10.0.12, Node.js 20. Seen on 2026-11-30:
#> 1 in one byte            cbor-x number 1                          cbor number 1
#> 1 in eight bytes         cbor-x bigint 1                          cbor number 1
#> seconds in four bytes    cbor-x object 2024-01-01T00:00:00.000Z   cbor object 2024-01-01T00:00:00.000Z
#> seconds in eight bytes   cbor-x TypeError                         cbor object 2024-01-01T00:00:00.000Z
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts cbor-x@1.6.9 cbor@10.0.12
node --input-type=module > seen <<'JS'
import { decode } from 'cbor-x';
import cbor from 'cbor';
const show = (read, hex) => {
  try {
    const v = read(Buffer.from(hex, 'hex'));
    return `${typeof v} ${v instanceof Date ? v.toISOString() : v}`;
  } catch (error) { return error.name; }
};
for (const [name, hex] of [
  ['1 in one byte', '01'], ['1 in eight bytes', '1b0000000000000001'],
  ['seconds in four bytes', 'c11a65920080'], ['seconds in eight bytes', 'c11b0000000065920080'],
]) console.log(name.padEnd(24), 'cbor-x', show(decode, hex).padEnd(32), ' cbor', show(cbor.decodeFirstSync, hex));
JS
diff <(sed -n 's/^#> //p' "$self") seen
