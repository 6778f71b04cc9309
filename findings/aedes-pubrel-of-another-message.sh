#!/usr/bin/env bash
# aedes, three QoS 2 messages in flight to a kept session (clean = false): when their PUBRECs
# arrive in one piece, the first is answered by the PUBREL of the third, and the first message is
# never released. A client that waits for it (MQTT 3.1.1, 4.3.3) has one slot less for good.
# Software: npm aedes 1.2.0, npm mqtt-packet 9.0.2, Node.js 20. Seen on 2026-11-30 (0 is the
# first message received):
#> PUBREC 0 1 2, PUBREL 2 1 2
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
  send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: false, clientId, keepalive: 60 });
  await ready;
  return send;
};
const ids = [], released = [];
const sub = await connect('sub', (packet) => {
  if (packet.cmd === 'publish') ids.push(packet.messageId);
  if (packet.cmd === 'pubrel') released.push(ids.indexOf(packet.messageId));
});
sub({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 't', qos: 2 }] });
await wait(200);
const pub = await connect('pub', (packet, send) => packet.cmd === 'pubrec' && send({ cmd: 'pubrel', messageId: packet.messageId }));
pub(...[1, 2, 3].map((messageId) => ({ cmd: 'publish', topic: 't', payload: 'x', qos: 2, messageId })));
while (ids.length < 3) await wait(20);
await wait(300);
sub(...ids.map((messageId) => ({ cmd: 'pubrec', messageId })));
await wait(1000);
console.log('PUBREC 0 1 2, PUBREL', ...released);
process.exit();
JS
diff <(sed -n 's/^#> //p' "$self") seen
