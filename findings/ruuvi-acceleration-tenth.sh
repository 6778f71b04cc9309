#!/usr/bin/env bash
# TheengsDecoder gives a RuuviTag's acceleration as a tenth of its unit: a tag at rest has 1.016
# on its z axis where 1036 mg are 10.16 m/s2. ruuvitag-sensor reads 1036 (mg) from the same
# advertisement, a test vector of Ruuvi's data format 5. Battery: volts against millivolts.
# Software: PyPI TheengsDecoder 2.5.0, PyPI ruuvitag-sensor 4.1.0. Seen on 2026-11-30:
#> TheengsDecoder accx 0.00392266  ruuvitag-sensor acceleration_x 4
#> TheengsDecoder accy -0.00392266  ruuvitag-sensor acceleration_y -4
#> TheengsDecoder accz 1.01596894  ruuvitag-sensor acceleration_z 1036
#> TheengsDecoder volt 2.977  ruuvitag-sensor battery 2977
#> TheengsDecoder tempc 24.3  ruuvitag-sensor temperature 24.3
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target py TheengsDecoder==2.5.0 ruuvitag-sensor==4.1.0
PYTHONPATH=py python3 - > seen <<'PY'
import json
from TheengsDecoder import decodeBLE
from ruuvitag_sensor.decoder import get_decoder
data = '0512fc5394c37c0004fffc040cac364200cdcbb8334c884f'
theengs = json.loads(decodeBLE(json.dumps({'manufacturerdata': '9904' + data})))
ruuvi = get_decoder(5).decode_data(data.upper())
for mine, theirs in (('accx', 'acceleration_x'), ('accy', 'acceleration_y'), ('accz', 'acceleration_z'), ('volt', 'battery'), ('tempc', 'temperature')):
    print('TheengsDecoder', mine, theengs[mine], ' ruuvitag-sensor', theirs, ruuvi[theirs])
PY
diff <(sed -n 's/^#> //p' "$self") seen
