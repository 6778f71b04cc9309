#!/usr/bin/env bash
# RabbitMQ's MQTT 3.1.1 plugin turns topics into AMQP routing keys and back, and not all come back
# as they went: a dot arrives as a slash, a star as a plus sign, which MQTT allows in no topic
# that is published. So "line.1/temp" is two levels more for every filter and every column that is
# cut from the topic. QoS 2 is granted as 1.
# Software: Debian 12 rabbitmq-server 3.10.8-1.1+deb12u1, PyPI paho-mqtt 2.2.0. Seen on 2026-11-30:
#> granted 1
#> line-1/temp arrives as line-1/temp
#> line.1/temp arrives as line/1/temp
#> line*1/temp arrives as line+1/temp
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); pids=() p=
trap '{ for p in "${pids[@]}"; do kill -KILL -- "$p" || true; done; wait || true; } 2>/dev/null; rm -rf "$dir"' EXIT
cd "$dir"
apt-get download --quiet --quiet rabbitmq-server=3.10.8-1.1+deb12u1 erlang-{asn1,base,crypto,eldap,ftp,inets,mnesia,os-mon,parsetools,public-key,runtime-tools,snmp,ssl,syntax-tools,tftp,tools,xmerl} 2>/dev/null
for deb in ./*.deb; do dpkg -x "$deb" root; done
read -r mqtt epmd dist < <(python3 -c 'import socket; s = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]; print(*(x.getsockname()[1] for x in s))')
printf 'mqtt.listeners.tcp.1 = 127.0.0.1:%s\nmqtt.allow_anonymous = true\nlisteners.tcp = none\n' "$mqtt" > rabbitmq.conf
echo '[rabbitmq_mqtt].' > enabled_plugins
export ERL_ROOTDIR=$dir/root/usr/lib/erlang ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$epmd HOME=$dir
export PATH=$ERL_ROOTDIR/bin:$PATH RABBITMQ_NODENAME=finding@localhost RABBITMQ_DIST_PORT=$dist RABBITMQ_BASE=$dir
export RABBITMQ_MNESIA_BASE=$dir/mnesia RABBITMQ_LOG_BASE=$dir/log RABBITMQ_LOGS=- RABBITMQ_PID_FILE=$dir/pid
export RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins
setsid "$ERL_ROOTDIR"/erts-*/bin/epmd -port "$epmd" -address 127.0.0.1 > /dev/null 2>&1 & pids+=("-$!")
setsid root/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/sbin/rabbitmq-server > log.txt 2>&1 & pids+=("-$!")
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target py paho-mqtt==2.2.0
for _ in $(seq 300); do grep -q 'Server startup complete' log.txt && break; sleep 0.1; done
grep -q 'Server startup complete' log.txt || exit 124
PORT=$mqtt PYTHONPATH=py python3 - > seen <<'PY'
import os, queue
import paho.mqtt.client as paho
got, granted = queue.Queue(), queue.Queue()
c = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id='c')
c.on_connect = lambda c, *rest: c.subscribe('#', 2)
c.on_subscribe = lambda c, u, mid, codes, props: granted.put(codes[0].value)
c.on_message = lambda c, u, m: got.put(m.topic)
c.connect('127.0.0.1', int(os.environ['PORT']))
c.loop_start()
print('granted', granted.get(timeout=5))
for topic in ('line-1/temp', 'line.1/temp', 'line*1/temp'):
    c.publish(topic, 'x', qos=1)
    print(topic, 'arrives as', got.get(timeout=5))
PY
diff <(sed -n 's/^#> //p' "$self") seen
