#!/usr/bin/env bash
# cbor-x puts a tag around a Uint8Array (64), a Float32Array (85) and a Map (259); a Buffer and a
# plain object with the same content have none. Python's cbor2 hands each on as a CBORTag, not
# as bytes, list or dict (the Map in one that cannot be changed), so that code written for one
# sender fails for the other.
# Software: npm cbor-x 1.6.9, PyPI cbor2 6.3.0, Node.js 20, Python 3.11. Seen on 2026-11-30:
#> Buffer        420102            b'\x01\x02'
#> Uint8Array    d840420102        CBORTag(64, b'\x01\x02')
#> Float32Array  d855440000c03f    CBORTag(85, b'\x00\x00\xc0?')
#> Map           d90103a1616101    CBORTag(259, frozendict({'a': 1}))
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts cbor-x@1.6.9
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target py cbor2==6.3.0
node --input-type=module > encoded <<'JS'
import { encode } from 'cbor-x';
for (const v of [Buffer.from([1, 2]), new Uint8Array([1, 2]), new Float32Array([1.5]), new Map([['a', 1]])])
  console.log(v.constructor.name, encode(v).toString('hex'));
JS
PYTHONPATH=py python3 - > seen <<'PY'
import cbor2
for line in open('encoded'):
    name, encoded = line.split()
    print(name.ljust(13), encoded.ljust(17), cbor2.loads(bytes.fromhex(encoded)))
PY
diff <(sed -n 's/^#> //p' "$self") seen
