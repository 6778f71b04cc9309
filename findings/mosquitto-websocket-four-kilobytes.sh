#!/usr/bin/env bash
# mosquitto over WebSocket sends at most about 4 KiB of a message each 100 ms: 100,000 bytes
# that take milliseconds over TCP take 2.4 s over ws, from the same broker, on loopback.
# Software: Debian 12 mosquitto 2.0.11-1.2+deb12u2, npm mqtt 5.16.0. Seen on 2026-11-30:
#> tcp   1000 bytes: below 1 s
#> tcp 100000 bytes: below 1 s
#> ws    1000 bytes: below 1 s
#> ws  100000 bytes: above 2 s
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d) pid=
trap '[ -z "$pid" ] || kill "$pid" || true; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts mqtt@5.16.0
for package in mosquitto=2.0.11-1.2+deb12u2 libcjson1 libdlt2 libwrap0 libnsl2 libtirpc3; do
  apt-get download --quiet --quiet "$package" 2>/dev/null
done
for deb in ./*.deb; do dpkg -x "$deb" root; done
read -r tcp ws < <(node -e 'const { createServer } = require("net"); const a = createServer().listen(0, "127.0.0.1", () => { const b = createServer().listen(0, "127.0.0.1", () => { console.log(a.address().port, b.address().port); a.close(); b.close(); }); });')
printf 'listener %s 127.0.0.1\nlistener %s 127.0.0.1\nprotocol websockets\nallow_anonymous true\n' "$tcp" "$ws" > mosquitto.conf
LD_LIBRARY_PATH=$(find "$dir/root" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd :) root/usr/sbin/mosquitto -c mosquitto.conf 2> log & pid=$!
TCP=$tcp WS=$ws node --input-type=module > seen <<'JS'
import { once } from 'node:events';
import mqtt from 'mqtt';
const tcp = `mqtt://127.0.0.1:${process.env.TCP}`, ws = `ws://127.0.0.1:${process.env.WS}`;
const publisher = await mqtt.connectAsync(tcp, { reconnectPeriod: 100 });
for (const [name, url] of [['tcp', tcp], ['ws', ws]]) {
  const client = await mqtt.connectAsync(url);
  await client.subscribeAsync('t');
  for (const size of [1000, 100_000]) {
    const arrival = once(client, 'message'), start = performance.now();
    publisher.publish('t', Buffer.alloc(size));
    await arrival;
    const seconds = (performance.now() - start) / 1000;
    console.log(name.padEnd(3), String(size).padStart(6), 'bytes:', seconds > 2 ? 'above 2 s' : seconds < 1 ? 'below 1 s' : 'between');
  }
}
process.exit();
JS
diff <(sed -n 's/^#> //p' "$self") seen
