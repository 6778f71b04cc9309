#!/usr/bin/env bash
# One client with two filters that match the same topic, one granted QoS 0, one QoS 1, receives a
# QoS 1 message once, and at QoS 0 (MQTT 3.1.1, 3.3.5 asks for the highest of the filters): in
# aedes if "#" has the 0, in mosquitto if "+" has it. So a second filter at QoS 0, meant for
# other topics, takes the guarantee away.
# Software: npm aedes 1.2.0, Debian 12 mosquitto 2.0.11-1.2+deb12u2, npm mqtt 5.16.0. Seen on
# 2026-11-30 (granted QoS by filter, QoS of two messages):
#> aedes     {"#":0,"t/a":1} received 0 0
#> aedes     {"#":0,"+/a":1} received 0 0
#> aedes     {"#":1,"+/a":0} received 1 1
#> mosquitto {"#":0,"t/a":1} received 1 1
#> mosquitto {"#":0,"+/a":1} received 1 1
#> mosquitto {"#":1,"+/a":0} received 0 0
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d) pid=
trap '[ -z "$pid" ] || kill "$pid" || true; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts aedes@1.2.0 mqtt@5.16.0
for package in mosquitto=2.0.11-1.2+deb12u2 libcjson1 libdlt2 libwrap0 libnsl2 libtirpc3; do
  apt-get download --quiet --quiet "$package" 2>/dev/null
done
for deb in ./*.deb; do dpkg -x "$deb" root; done
port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$port" > mosquitto.conf
LD_LIBRARY_PATH=$(find "$dir/root" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd :) root/usr/sbin/mosquitto -c mosquitto.conf 2> log & pid=$!
PORT=$port node --input-type=module > seen <<'JS'
import net from 'node:net';
import { once } from 'node:events';
import { Aedes } from 'aedes';
import mqtt from 'mqtt';
const broker = await Aedes.createBroker();
const server = net.createServer(broker.handle).listen(0, '127.0.0.1');
await once(server, 'listening');
for (const [name, port] of [['aedes', server.address().port], ['mosquitto', process.env.PORT]]) {
  for (const filters of [{ '#': 0, 't/a': 1 }, { '#': 0, '+/a': 1 }, { '#': 1, '+/a': 0 }]) {
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 100 });
    await client.subscribeAsync(Object.fromEntries(Object.entries(filters).map(([filter, qos]) => [filter, { qos }])));
    const got = [];
    client.on('message', (topic, payload, packet) => got.push(packet.qos));
    await client.publishAsync('t/a', 'x', { qos: 1 });
    await client.publishAsync('t/a', 'y', { qos: 1 });
    await new Promise((resolve) => setTimeout(resolve, 300));
    console.log(name.padEnd(9), JSON.stringify(filters), 'received', got.join(' '));
    await client.endAsync();
  }
}
process.exit();
JS
diff <(sed -n 's/^#> //p' "$self") seen
