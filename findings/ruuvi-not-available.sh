#!/usr/bin/env bash
# A RuuviTag that cannot read a sensor sends a marker for "not available". TheengsDecoder leaves
# such a value out, but for the battery, which it gives as 3.647 V (the marker 2047 plus 1600 mV).
# ruuvitag-sensor gives no battery, but the markers of the two counters as counts.
# Software: PyPI TheengsDecoder 2.5.0, PyPI ruuvitag-sensor 4.1.0. Seen on 2026-11-30:
#> TheengsDecoder tempc None  ruuvitag-sensor temperature None
#> TheengsDecoder volt 3.647  ruuvitag-sensor battery None
#> TheengsDecoder mov None  ruuvitag-sensor movement_counter 255
#> TheengsDecoder seq None  ruuvitag-sensor measurement_sequence_number 65535
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target py TheengsDecoder==2.5.0 ruuvitag-sensor==4.1.0
PYTHONPATH=py python3 - > seen <<'PY'
import json
from TheengsDecoder import decodeBLE
from ruuvitag_sensor.decoder import get_decoder
data = '058000ffffffff800080008000ffffffffffcbb8334c884f'
theengs = json.loads(decodeBLE(json.dumps({'manufacturerdata': '9904' + data})))
ruuvi = get_decoder(5).decode_data(data.upper())
for mine, theirs in (('tempc', 'temperature'), ('volt', 'battery'), ('mov', 'movement_counter'), ('seq', 'measurement_sequence_number')):
    print('TheengsDecoder', mine, theengs.get(mine), ' ruuvitag-sensor', theirs, ruuvi[theirs])
PY
diff <(sed -n 's/^#> //p' "$self") seen
