#!/usr/bin/env bash
# iotcore (rumqttd inside) sends a retained message on the first SUBSCRIBE of a filter only. A
# client that subscribes again (MQTT 3.1.1, 3.8.4: retained messages must be re-sent), as after
# a reconnect into a kept session, does not learn the present state.
# Software: PyPI iotcore 0.4.0, PyPI paho-mqtt 2.2.0, Python 3.11. Seen on 2026-11-30:
#> first SUBSCRIBE: 1 retained
#> second SUBSCRIBE: 0 retained
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target py iotcore==0.4.0 paho-mqtt==2.2.0
PYTHONPATH=py python3 - > seen <<'PY'
import socket, threading, time
import paho.mqtt.client as paho
from iotcore import Broker
with socket.create_server(('127.0.0.1', 0)) as s: port = s.getsockname()[1]
broker = Broker(listen='127.0.0.1', port=port)
broker.start()
try:
    got, up = [], threading.Event()
    c = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id='c')
    c.on_connect = lambda *rest: up.set()
    c.on_message = lambda c, u, m: got.append(m.retain)
    c.connect('127.0.0.1', port)
    c.loop_start()
    up.wait(5)
    c.publish('t', 'state', qos=1, retain=True).wait_for_publish(5)
    for time_ in ('first', 'second'):
        got.clear()
        c.subscribe('t', 1)
        time.sleep(1)
        print(f'{time_} SUBSCRIBE: {sum(got)} retained')
    c.disconnect()
finally:
    broker.stop()
PY
diff <(sed -n 's/^#> //p' "$self") seen
