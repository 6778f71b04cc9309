#!/usr/bin/env bash
# Two Sparkplug B libraries on the same metrics. sparkplug-payload writes a UInt32 into long_value
# and an Int8 of -5 as 4294967291; pysparkplug writes a UInt32 into int_value and an Int8 of -5
# as 251. Each reads its own. pysparkplug refuses the other's Int8; sparkplug-payload reads the
# other's Int8 as 251 and the other's UInt32 as null, without an error.
# Software: npm sparkplug-payload 1.0.3, PyPI pysparkplug 0.6.1. Seen on 2026-11-30:
#> pysparkplug       reads npm.bin  INT8   OverflowError
#> pysparkplug       reads npm.bin  UINT32 4294967295
#> pysparkplug       reads npm.bin  INT64  -5
#> pysparkplug       reads pypi.bin INT8   -5
#> pysparkplug       reads pypi.bin UINT32 4294967295
#> pysparkplug       reads pypi.bin INT64  -5
#> sparkplug-payload reads npm.bin  Int8   -5
#> sparkplug-payload reads npm.bin  UInt32 4294967295
#> sparkplug-payload reads npm.bin  Int64  -5
#> sparkplug-payload reads pypi.bin Int8   251
#> sparkplug-payload reads pypi.bin UInt32 null
#> sparkplug-payload reads pypi.bin Int64  -5
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts sparkplug-payload@1.0.3
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target py pysparkplug==0.6.1 paho-mqtt==1.6.1 protobuf==7.36.2
cat > read.mjs <<'JS'
import fs from 'node:fs';
import sparkplug from 'sparkplug-payload';
const b = sparkplug.get('spBv1.0');
const metrics = [['Int8', -5], ['UInt32', 4294967295], ['Int64', -5]].map(([type, value]) => ({ name: type, type, value }));
if (process.argv[2] === 'write') fs.writeFileSync('npm.bin', b.encodePayload({ timestamp: 1700000000123, seq: 0, metrics }));
else for (const file of ['npm.bin', 'pypi.bin'])
  for (const m of b.decodePayload(fs.readFileSync(file)).metrics) console.log('sparkplug-payload reads', file.padEnd(8), m.type.padEnd(6), String(m.value));
JS
cat > read.py <<'PY'
from pysparkplug import DataType, Metric
from pysparkplug._protobuf import Payload
out = Payload(timestamp=1700000000123, seq=0)
for kind, value in ((DataType.INT8, -5), (DataType.UINT32, 4294967295), (DataType.INT64, -5)):
    out.metrics.append(Metric(timestamp=None, name=kind.name, datatype=kind, value=value).to_pb(include_dtype=True))
open('pypi.bin', 'wb').write(out.SerializeToString())
for file in ('npm.bin', 'pypi.bin'):
    for m in Payload.FromString(open(file, 'rb').read()).metrics:
        try: value = Metric.from_pb(m).value
        except Exception as error: value = type(error).__name__
        print('pysparkplug       reads', file.ljust(8), DataType(m.datatype).name.ljust(6), value)
PY
node read.mjs write
{ PYTHONPATH=py python3 read.py; node read.mjs; } > seen
diff <(sed -n 's/^#> //p' "$self") seen
