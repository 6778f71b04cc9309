#!/usr/bin/env bash
# PyPI senml takes base fields from the first record of a pack only. RFC 8428 (4.1) lets any
# later record set them anew, and base value and base sum apply too. Here the second record
# changes bn and bt: its name and time come out wrong, without an error. The pack it writes has
# "bver": 5, where RFC 8428 has 10.
# Software: PyPI senml 0.1.0 (attrs 26.1.0), Python 3.11. Seen on 2026-11-30:
#> room1/temp 1000.0 21.0 (RFC 8428: room1/temp 1000 21.0)
#> room1/temp 1010 22.0 (RFC 8428: room2/temp 2010 22.0)
#> bver 5
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target py senml==0.1.0 attrs==26.1.0
PYTHONPATH=py python3 - > seen <<'PY'
from senml import SenMLDocument
pack = SenMLDocument.from_json([
    {'bn': 'room1/', 'bt': 1000, 'n': 'temp', 'v': 21},
    {'bn': 'room2/', 'bt': 2000, 'n': 'temp', 'v': 22, 't': 10},
])
for record, right in zip(pack.measurements, ('room1/temp 1000 21.0', 'room2/temp 2010 22.0')):
    it = record.to_absolute(pack.base)
    print(it.name, it.time, it.value, f'(RFC 8428: {right})')
print('bver', pack.to_json()[0]['bver'])
PY
diff <(sed -n 's/^#> //p' "$self") seen
