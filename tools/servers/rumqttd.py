# The broker rumqttd as a program, from the package iotcore: rumqttd.py <file of rumqttd's options>. It ends when its standard
# input ends.

import os
import sys
import threading

from iotcore import Broker


def end_with_input():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_input, daemon=True).start()
broker = Broker(config_path=sys.argv[1])
print("rumqttd running on", *broker.listeners, flush=True)
broker.run_forever()
