#!/usr/bin/env bash
# sparkplug-payload does not know the array types of Sparkplug 3.0 (Int32Array and so on): it
# writes such a metric with datatype 0 and no value, without an error. pysparkplug writes it.
# Software: npm sparkplug-payload 1.0.3, PyPI pysparkplug 0.6.1. Seen on 2026-11-30:
#> sparkplug-payload Int32Array  12050a016d2000
#> sparkplug-payload DoubleArray 12050a016d2000
#> sparkplug-payload StringArray 12050a016d2000
#> pysparkplug       INT32       0a016d20188201080100000002000000
#> pysparkplug       DOUBLE      0a016d201f820110000000000000f03f0000000000000040
#> pysparkplug       STRING      0a016d20218201026100
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts sparkplug-payload@1.0.3
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target py pysparkplug==0.6.1 paho-mqtt==1.6.1 protobuf==7.36.2
node --input-type=module > seen <<'JS'
import sparkplug from 'sparkplug-payload';
const b = sparkplug.get('spBv1.0');
for (const type of ['Int32Array', 'DoubleArray', 'StringArray']) {
  const bytes = b.encodePayload({ metrics: [{ name: 'm', type, value: type === 'StringArray' ? ['a'] : [1, 2] }] });
  console.log('sparkplug-payload', type.padEnd(11), Buffer.from(bytes).toString('hex'));
}
JS
PYTHONPATH=py python3 - >> seen <<'PY'
from pysparkplug import DataType, Metric
for name, values in (('INT32', [1, 2]), ('DOUBLE', [1.0, 2.0]), ('STRING', ['a'])):
    metric = Metric(timestamp=None, name='m', datatype=DataType[name + '_ARRAY'], value=values)
    print('pysparkplug      ', name.ljust(11), metric.to_pb(include_dtype=True).SerializeToString().hex())
PY
diff <(sed -n 's/^#> //p' "$self") seen
