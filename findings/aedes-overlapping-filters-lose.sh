#!/usr/bin/env bash
# aedes, a kept session (clean = false) with two filters that match the same topic: when two QoS 1
# messages arrive in one piece, the broker closes the subscriber's connection ("no such packet"),
# the first message is gone for good, the second comes twice after the reconnect. A message is
# queued once per filter and delivered once; for the copy that is not delivered, an entry without a
# packet id is removed from the queue, and that may be the one of a message still to be sent.
# Software: npm aedes 1.2.0, npm mqtt-packet 9.0.2, Node.js 20. Seen on 2026-12-01:
#> one filter: received 0 1, reconnected 0 times
#> two filters: received 1 1, reconnected 1 times
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts aedes@1.2.0 mqtt-packet@9.0.2
node --input-type=module > seen <<'JS'
import net from 'node:net';
import { once } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import { Aedes } from 'aedes';
import mqtt from 'mqtt-packet';
const broker = await Aedes.createBroker();
const server = net.createServer(broker.handle).listen(0, '127.0.0.1');
await once(server, 'listening');
const connect = async (clientId, onPacket) => {
  const socket = net.connect(server.address().port, '127.0.0.1');
  const parser = mqtt.parser();
  const send = (...packets) => socket.write(Buffer.concat(packets.map((packet) => mqtt.generate(packet))));
  const ready = new Promise((resolve) => parser.on('packet', (packet) => packet.cmd === 'connack' ? resolve() : onPacket(packet, send)));
  socket.on('data', (data) => parser.parse(data));
  socket.on('error', () => {});
  send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: false, clientId, keepalive: 60 });
  await ready;
  return { send, closed: once(socket, 'close').then(() => true) };
};
const run = async (name, filters) => {
  const got = [];
  const take = (packet, send) => {
    if (packet.cmd !== 'publish') return;
    got.push(packet.payload.toString());
    send({ cmd: 'puback', messageId: packet.messageId });
  };
  const sub = await connect(name, take);
  sub.send({ cmd: 'subscribe', messageId: 1, subscriptions: filters.map((topic) => ({ topic: `${name}/${topic}`, qos: 1 })) });
  await wait(200);
  const pub = await connect(`${name} pub`, () => {});
  pub.send(...['0', '1'].map((payload, i) => ({ cmd: 'publish', topic: `${name}/b/c`, payload, qos: 1, messageId: i + 1 })));
  const isClosed = await Promise.race([sub.closed, wait(1000, false)]);
  if (isClosed) await connect(name, take);
  await wait(500);
  console.log(`${name} filter${filters.length > 1 ? "s" : ""}: received ${got.join(" ")}, reconnected ${Number(isClosed)} times`);
};
await run('one', ['b/+']);
await run('two', ['+/c', 'b/+']);
process.exit();
JS
diff <(sed -n 's/^#> //p' "$self") seen
