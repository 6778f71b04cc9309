#!/usr/bin/env bash
# complete-teltonika-parser gives an element of eight bytes (78, a driver's iButton) as a number or as
# a text, depending on its value, so that a column of one type meets both. Elements are
# unsigned: -10.0 degrees of a Dallas probe (72, tenths) come as 4294967196, and an
# altitude of -10 m as 65526.
# Software: npm complete-teltonika-parser 0.3.4, Node.js 20. Seen on 2026-11-30:
#> altitude 10 temperature 225 button number 1
#> altitude 65526 temperature 4294967196 button string 72057594037927937
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts complete-teltonika-parser@0.3.4
node --input-type=module > seen <<'JS'
import teltonika from 'complete-teltonika-parser';
const crc16 = (bytes) => bytes.reduce((crc, byte) => {
  crc ^= byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xa001 : crc >>> 1;
  return crc;
}, 0);
// Codec 8, one record: time, priority, longitude, latitude, altitude, angle, satellites, speed, elements by width.
const packet = (altitude, temperature, button) => {
  const data = Buffer.from('0801' + '0000016b40d8ea30' + '00' + '0f0ea850' + '209a6900' + altitude + '00b4' + '07' + '0000' +
    '0002' + '00' + '00' + '01' + '48' + temperature + '01' + '4e' + button + '01', 'hex');
  const size = Buffer.alloc(8), crc = Buffer.alloc(4);
  size.writeUInt32BE(data.length, 4);
  crc.writeUInt32BE(crc16(data));
  return Buffer.concat([size, data, crc]).toString('hex');
};
for (const [altitude, temperature, button] of [['000a', '000000e1', '0000000000000001'], ['fff6', 'ffffff9c', '0100000000000001']]) {
  const { GPSelement, IOelement } = new teltonika.ProtocolParser(packet(altitude, temperature, button)).Content.AVL_Datas[0];
  console.log('altitude', GPSelement.Altitude, 'temperature', IOelement.Elements[72], 'button', typeof IOelement.Elements[78], IOelement.Elements[78]);
}
JS
diff <(sed -n 's/^#> //p' "$self") seen
