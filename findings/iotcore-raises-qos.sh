#!/usr/bin/env bash
# iotcore (rumqttd inside) delivers at the QoS of the subscription, not at the lower one of
# message and subscription (MQTT 3.1.1, 3.8.4): what was published at QoS 0 arrives at QoS 2 and
# takes part in the in-flight limit and the session. A filter that is subscribed again at a
# lower QoS is granted that, but keeps delivering at the first one.
# Software: PyPI iotcore 0.4.0, PyPI paho-mqtt 2.2.0, Python 3.11. Seen on 2026-11-30:
#> granted 2: published at 0, received at 2
#> granted 0: published at 2, received at 2
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target py iotcore==0.4.0 paho-mqtt==2.2.0
PYTHONPATH=py python3 - > seen <<'PY'
import queue, socket
import paho.mqtt.client as paho
from iotcore import Broker
with socket.create_server(('127.0.0.1', 0)) as s: port = s.getsockname()[1]
broker = Broker(listen='127.0.0.1', port=port)
broker.start()
try:
    got, granted = queue.Queue(), queue.Queue()
    c = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id='c')
    c.on_connect = lambda c, *rest: c.subscribe('t', 2)
    c.on_subscribe = lambda c, u, mid, codes, props: granted.put(codes[0].value)
    c.on_message = lambda c, u, m: got.put(m.qos)
    c.connect('127.0.0.1', port)
    c.loop_start()
    print('granted', granted.get(timeout=5), end='')
    c.publish('t', 'x', qos=0)
    print(': published at 0, received at', got.get(timeout=5))
    c.subscribe('t', 0)
    print('granted', granted.get(timeout=5), end='')
    c.publish('t', 'x', qos=2)
    print(': published at 2, received at', got.get(timeout=5))
    c.disconnect()
finally:
    broker.stop()
PY
diff <(sed -n 's/^#> //p' "$self") seen
