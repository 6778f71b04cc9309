#!/usr/bin/env bash
# A receiver without a fix leaves the position fields of its NMEA sentences empty. pynmea2 gives
# latitude and longitude 0.0 for them, a place in the Gulf of Guinea; npm gps gives null.
# Software: PyPI pynmea2 1.19.0, npm gps 0.9.0. Seen on 2026-11-30:
#> $GPGGA,,,,,,0,,,,,,,,*66 pynmea2 0.0 0.0
#> $GPRMC,,V,,,,,,,,,,N*53 pynmea2 0.0 0.0
#> $GPGGA,,,,,,0,,,,,,,,*66 gps null null
#> $GPRMC,,V,,,,,,,,,,N*53 gps null null
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts gps@0.9.0
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target py pynmea2==1.19.0
# shellcheck disable=SC2016
printf '%s\n' '$GPGGA,,,,,,0,,,,,,,,*66' '$GPRMC,,V,,,,,,,,,,N*53' > sentences
PYTHONPATH=py python3 - > seen <<'PY'
import pynmea2
for line in open('sentences').read().split():
    fix = pynmea2.parse(line)
    print(line, 'pynmea2', fix.latitude, fix.longitude)
PY
node --input-type=module >> seen <<'JS'
import fs from 'node:fs';
import GPS from 'gps';
for (const line of fs.readFileSync('sentences', 'utf8').trim().split('\n')) {
  const { lat, lon } = (GPS.default ?? GPS).Parse(line);
  console.log(line, 'gps', lat, lon);
}
JS
diff <(sed -n 's/^#> //p' "$self") seen
