#!/usr/bin/env bash
# amqtt sends a client that connects the retained messages of the filters of all other clients,
# before and without a subscription of its own. A consumer that stores what arrives stores
# retained messages of topics that it never asked for.
# Software: PyPI amqtt 0.12.1, PyPI paho-mqtt 2.2.0, Python 3.11. Seen on 2026-11-30:
#> subscribed to other/#: ['other/topic']
#> no subscription: ['other/topic']
#> subscribed to mine/topic: ['mine/topic', 'other/topic']
set -euo pipefail
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; cd "$dir"
timeout 50 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target py amqtt==0.12.1 paho-mqtt==2.2.0 2> pip.log
PYTHONPATH=py timeout 15 python3 - > seen <<'PY'
import asyncio, logging, os, socket, time
import paho.mqtt.client as paho
from amqtt.broker import Broker
logging.disable()

def client(port, name, *filters):
    got, up = [], []
    c = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name)
    c.on_message = lambda c, u, message: got.append(message.topic)
    c.on_connect = lambda c, *rest: ([c.subscribe(f, 1) for f in filters], up.append(1))
    c.connect('127.0.0.1', port)
    c.loop_start()
    while not up: time.sleep(.02)
    return c, got

def run(port):
    publisher, _ = client(port, 'publisher')
    for topic in ('other/topic', 'mine/topic'):
        publisher.publish(topic, 'x', qos=1, retain=True).wait_for_publish(5)
    for name, filters in (('subscribed to other/#', ['other/#']), ('no subscription', []), ('subscribed to mine/topic', ['mine/topic'])):
        _, got = client(port, name, *filters)
        time.sleep(1)
        print(name + ':', sorted(set(got)), flush=True)

async def main():
    with socket.create_server(('127.0.0.1', 0)) as s: port = s.getsockname()[1]
    broker = Broker({'listeners': {'default': {'type': 'tcp', 'bind': f'127.0.0.1:{port}'}},
                     'plugins': {'amqtt.plugins.authentication.AnonymousAuthPlugin': {'allow_anonymous': True}}})
    await broker.start()
    await asyncio.to_thread(run, port)
    os._exit(0)
asyncio.run(main())
PY
diff <(sed -n 's/^#> //p' "$self") seen
