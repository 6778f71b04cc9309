#!/usr/bin/env bash
# @ygoe/msgpack takes every whole number for a 64-bit integer. From 2**63 to 2**64 it writes the
# bits as a signed integer (1e19 arrives as -8446744073709551616); beyond, it clips to the
# largest or smallest integer (1e300 arrives as 2**64 - 1). Other libraries write a float.
# Software: npm @ygoe/msgpack 1.0.3, npm msgpackr 2.1.4, Node.js 20. Seen on 2026-11-30:
#> 10000000000000000000   @ygoe d38ac7230489e80000 msgpackr cb43e158e460913d00
#> 100000000000000000000  @ygoe cfffffffffffffffff msgpackr cb4415af1d78b58c40
#> 1e+300                 @ygoe cfffffffffffffffff msgpackr cb7e37e43c8800759c
#> -100000000000000000000 @ygoe d38000000000000000 msgpackr cbc415af1d78b58c40
set -euo pipefail
[ "${1-}" = bounded ] || exec timeout 55 bash "$0" bounded
self=$(realpath "$0"); dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --prefer-offline --no-audit --no-fund --ignore-scripts @ygoe/msgpack@1.0.3 msgpackr@2.1.4
node --input-type=module > seen <<'JS'
import ygoe from '@ygoe/msgpack';
import { pack } from 'msgpackr';
for (const v of [1e19, 1e20, 1e300, -1e20])
  console.log(String(v).padEnd(22), '@ygoe', Buffer.from(ygoe.serialize(v)).toString('hex'), 'msgpackr', pack(v).toString('hex'));
JS
diff <(sed -n 's/^#> //p' "$self") seen
