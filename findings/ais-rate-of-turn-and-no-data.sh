#!/usr/bin/env bash
# Two AIS decoders on the same position reports. A turn of 20 degrees a minute travels as
# 4.733 times its square root, 21: pyais squares it again, ais-stream-decoder takes the root once
# more and gives 2.1. "Not available" is null in ais-stream-decoder; pyais hands on the markers
# (latitude 91, longitude 181, 102.3 knots, course 360), which are numbers like any other.
# Software: PyPI pyais 3.3.1, npm ais-stream-decoder 2.1.2. Seen on 2026-11-30:
#> pyais              20.0 -0.5 -0.25 0.1 359.9
#> pyais              -128.0 91.0 181.0 102.3 360.0
#> ais-stream-decoder 2.1 -0.5 -0.25 0.1 359.9
#> ais-stream-decoder null null null null null
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts ais-stream-decoder@2.1.2
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target py pyais==3.3.1 2> pip.log
PYTHONPATH=py python3 - > seen <<'PY'
import pyais
reports = (
    {'type': 1, 'mmsi': 211000000, 'lat': -0.5, 'lon': -0.25, 'speed': 0.1, 'course': 359.9, 'heading': 0, 'turn': 20, 'second': 1},
    {'type': 1, 'mmsi': 211000000, 'lat': 91, 'lon': 181, 'speed': 102.3, 'course': 360.0, 'heading': 511, 'turn': -128, 'second': 60},
)
with open('sentences', 'w') as file:
    for report in reports:
        sentence = pyais.encode_dict(report)[0]
        print(sentence, file=file)
        it = pyais.decode(sentence)
        print('pyais             ', float(it.turn), it.lat, it.lon, it.speed, it.course)
PY
node --input-type=module >> seen <<'JS'
import fs from 'node:fs';
import Decoder from 'ais-stream-decoder';
const decoder = new (Decoder.default ?? Decoder)();
decoder.on('data', (text) => {
  const it = JSON.parse(text);
  console.log('ais-stream-decoder', it.rateOfTurn?.toFixed(1) ?? null, it.lat, it.lon, it.speedOverGround, it.courseOverGround);
});
for (const sentence of fs.readFileSync('sentences', 'utf8').trim().split('\n')) decoder.write(sentence);
JS
diff <(sed -n 's/^#> //p' "$self") seen
