#!/usr/bin/env bash
# A meter sends ff ff as a date that is not set (M-Bus, EN 13757-3, type G). pyMeterBus gives it
# as the text of a date in month 15, without a mark that it is none; a set date is right.
# Software: PyPI pyMeterBus 0.8.5, Python 3.11. Seen on 2026-11-30:
#> df31 2030-01-31
#> ffff 2027-15-31
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target py pyMeterBus==0.8.5 2> pip.log
PYTHONPATH=py python3 - > seen <<'PY'
import json
import meterbus
for date in ('df31', 'ffff'):
    # Long frame, RSP_UD, variable data: id, maker, version, medium, access, status, signature; one record 42 6c.
    body = bytes.fromhex('080172' '78563412' '2423' '01' '07' '55' '00' '0000' '426c' + date)
    frame = bytes([0x68, len(body), len(body), 0x68]) + body + bytes([sum(body) % 256, 0x16])
    print(date, json.loads(meterbus.load(frame).to_JSON())['body']['records'][0]['value'])
PY
diff <(sed -n 's/^#> //p' "$self") seen
