#!/usr/bin/env bash
# Both Python encoders of Cayenne LPP cut a reading to its resolution instead of rounding, so that
# values of exactly two decimals lose a step: 8.2 is sent as 8.19, 0.29 as 0.28. Out of range,
# pycayennelpp wraps without an error (3276.8 degrees are sent as -3276.8); cayenneLPP raises.
# Software: PyPI pycayennelpp 2.4.0, PyPI cayenneLPP 0.5b3, Python 3.11. Seen on 2026-11-30:
#> analog_input 0.29    pycayennelpp 0102001c 0.28     cayenneLPP 0102001c
#> analog_input 8.2     pycayennelpp 01020333 8.19     cayenneLPP 01020333
#> analog_input -0.29   pycayennelpp 0102ffe4 -0.28    cayenneLPP 0102ffe4
#> analog_input 327.68  pycayennelpp 01028000 -327.68  cayenneLPP error
#> temperature  27.25   pycayennelpp 01670110 27.2     cayenneLPP 01670110
#> temperature  3276.8  pycayennelpp 01678000 -3276.8  cayenneLPP error
#> barometer    1013.35 pycayennelpp 01732795 1013.3   cayenneLPP 01732795
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
for package in pycayennelpp==2.4.0 cayenneLPP==0.5b3; do
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target py "$package"
done
PYTHONPATH=py python3 - > seen <<'PY'
import socket
from cayennelpp import LppFrame
from cayenneLPP import CayenneLPP
for kind, other, values in (
    ('analog_input', 'analog_input', (0.29, 8.2, -0.29, 327.68)),
    ('temperature', 'temperature', (27.25, 3276.8)),
    ('barometer', 'barometric_pressure', (1013.35,)),
):
    for value in values:
        frame = LppFrame()
        getattr(frame, 'add_' + kind)(1, value)
        read = LppFrame.from_bytes(bytes(frame)).data[0].value[0]
        try:
            second = CayenneLPP()
            getattr(second, 'add_' + other)(value, 1)
            second = bytes(second.get_payload()).hex()
        except Exception as error:
            second = type(error).__name__
        print(kind.ljust(12), str(value).ljust(7), 'pycayennelpp', bytes(frame).hex(), str(read).ljust(8), 'cayenneLPP', second)
PY
diff <(sed -n 's/^#> //p' "$self") seen
