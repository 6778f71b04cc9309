#!/usr/bin/env bash
# A Uint8Array from cbor-x is tag 64 around bytes; a Buffer with the same content is plain
# bytes. Python's cbor2 hands the first on as CBORTag, not as bytes, and a Float32Array as the
# raw little-endian bytes in a tag, so that samples are no list on the other side.
# Software: npm cbor-x 1.6.9, PyPI cbor2 6.3.0, Node.js 20, Python 3.11. Seen on 2026-11-30:
#> Buffer        420102            b'\x01\x02'
#> Uint8Array    d840420102        CBORTag(64, b'\x01\x02')
#> Float32Array  d855440000c03f    CBORTag(85, b'\x00\x00\xc0?')
set -euo pipefail
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
timeout 25 npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts cbor-x@1.6.9
timeout 25 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target py cbor2==6.3.0
timeout 10 node --input-type=module > encoded <<'JS'
import { encode } from 'cbor-x';
for (const v of [Buffer.from([1, 2]), new Uint8Array([1, 2]), new Float32Array([1.5])])
  console.log(v.constructor.name, encode(v).toString('hex'));
JS
PYTHONPATH=py timeout 10 python3 - > seen <<'PY'
import cbor2
for line in open('encoded'):
    name, encoded = line.split()
    print(name.ljust(13), encoded.ljust(17), cbor2.loads(bytes.fromhex(encoded)))
PY
diff <(sed -n 's/^#> //p' "$self") seen
