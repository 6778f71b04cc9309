#!/usr/bin/env bash
# aedes hands the DUP flag of a publisher on to the subscribers: a message whose publisher had to
# send it twice, but which the broker sends for the first time, arrives with DUP set (MQTT 3.1.1,
# 3.3.1.1: the flag must not be propagated). Who drops DUP messages as copies loses it.
# Software: npm aedes 1.2.0, npm mqtt 5.16.0, Node.js 20. Seen on 2026-11-30:
#> published once, dup=false: received dup=false
#> published once, dup=true: received dup=true
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts aedes@1.2.0 mqtt@5.16.0
node --input-type=module > seen <<'JS'
import net from 'node:net';
import { once } from 'node:events';
import { Aedes } from 'aedes';
import mqtt from 'mqtt';
const broker = await Aedes.createBroker();
const server = net.createServer(broker.handle).listen(0, '127.0.0.1');
await once(server, 'listening');
const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${server.address().port}`);
await client.subscribeAsync('t', { qos: 1 });
for (const dup of [false, true]) {
  const arrival = once(client, 'message');
  await client.publishAsync('t', 'x', { qos: 1, dup });
  console.log(`published once, dup=${dup}: received dup=${(await arrival)[2].dup}`);
}
process.exit();
JS
diff <(sed -n 's/^#> //p' "$self") seen
