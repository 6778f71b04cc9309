#!/usr/bin/env bash
# sparkplug-payload cannot read a DataSet of Int32 or DateTime, nor a Template parameter of
# Int32, that it has itself encoded: decodePayload throws, and the payload's other metrics are
# lost with it. Strings, doubles, booleans and 64-bit integers survive.
# Software: npm sparkplug-payload 1.0.3, Node.js 20. Seen on 2026-11-30:
#> DataSet of String   [["x"]]
#> DataSet of Double   [[1.5]]
#> DataSet of Boolean  [[true]]
#> DataSet of Int32    Invalid DataSetValue: {"intValue":5}
#> DataSet of Int64    [[{"low":5,"high":0,"unsigned":true}]]
#> DataSet of DateTime Invalid DataSetValue: {"longValue":"1700000000123"}
#> Template parameter  Invalid Parameter value: {"name":"p","type":3,"intValue":3}
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts sparkplug-payload@1.0.3
node --input-type=module > seen <<'JS'
import sparkplug from 'sparkplug-payload';
const b = sparkplug.get('spBv1.0');
const trip = (name, metric) => {
  const bytes = b.encodePayload({ timestamp: 1700000000123, seq: 0, metrics: [{ name: 'm', ...metric }] });
  let answer;
  try { answer = JSON.stringify(b.decodePayload(bytes).metrics[0].value.rows ?? 'read'); } catch (error) { answer = error.message; }
  console.log(name.padEnd(19), answer);
};
const column = (type, value) => ({ type: 'DataSet', value: { numOfColumns: 1, columns: ['c'], types: [type], rows: [[value]] } });
trip('DataSet of String', column('String', 'x'));
trip('DataSet of Double', column('Double', 1.5));
trip('DataSet of Boolean', column('Boolean', true));
trip('DataSet of Int32', column('Int32', 5));
trip('DataSet of Int64', column('Int64', 5));
trip('DataSet of DateTime', column('DateTime', 1700000000123));
trip('Template parameter', { type: 'Template', value: { isDefinition: false, templateRef: 'r', version: '1', metrics: [], parameters: [{ name: 'p', type: 'Int32', value: 3 }] } });
JS
diff <(sed -n 's/^#> //p' "$self") seen
