#!/usr/bin/env bash
# msgpack-lite writes a Date as an extension of its own (type 13) around a MessagePack number of
# milliseconds, of whatever width the number has; the timestamp of the MessagePack specification
# (type -1) it reads as an opaque ExtBuffer. So a date crosses to no other library, in neither
# direction: msgpackr refuses it, Python's msgpack hands on an ExtType.
# Software: npm msgpack-lite 0.2.2, npm msgpackr 2.1.4, PyPI msgpack 1.2.4. Seen on 2026-11-30:
#> 2023-11-14T22:13:20.123Z  c7090dcb4278bcfe5687b000
#> 1970-01-01T00:00:00.001Z  d40d01
#> 1969-12-31T23:59:59.999Z  d40dff
#> msgpackr reads the first: Error
#> msgpack-lite reads msgpackr's: ExtBuffer
#> Python reads the first: ExtType(code=13, data=b'\xcbBx\xbc\xfeV\x87\xb0\x00')
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts msgpack-lite@0.2.2 msgpackr@2.1.4
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target py msgpack==1.2.4
node --input-type=module > seen <<'JS'
import lite from 'msgpack-lite';
import { pack, unpack } from 'msgpackr';
const dates = [1700000000123, 1, -1].map((ms) => new Date(ms));
for (const date of dates) console.log(date.toISOString() + ' ', lite.encode(date).toString('hex'));
const read = (f, bytes) => { try { return f(bytes).constructor.name; } catch (error) { return error.name; } };
console.log('msgpackr reads the first:', read(unpack, lite.encode(dates[0])));
console.log("msgpack-lite reads msgpackr's:", read(lite.decode, pack(dates[0])));
JS
PYTHONPATH=py python3 - >> seen <<'PY'
import msgpack
print('Python reads the first:', msgpack.unpackb(bytes.fromhex('c7090dcb4278bcfe5687b000')))
PY
diff <(sed -n 's/^#> //p' "$self") seen
