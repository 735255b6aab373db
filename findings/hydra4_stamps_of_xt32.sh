#!/usr/bin/env bash
# hydra4 0.2.0, the decoder of Hesai's PandarXT-32 packets: the `stamp` of its points is wrong in two ways.
# 1. The eight blocks of a packet are fired 50 MICROseconds apart; these offsets are added as SECONDS: the points of one
#    packet spread over 350 s, the first block 347 s before the packet's time and the last one 3 s after it. (Those of the
#    lasers within a block, 1.5 us apart, are right.) De-skewing by them throws points anywhere.
# 2. The packet's date is UTC; it is taken for the machine's local time, so that a laptop and a robot decode one recording
#    hours apart.
# Seen here, a packet of 2026-01-02 03:04:05.5 UTC: block offsets -346.72, -296.72, ... 3.28 s; in Tokyo's zone 9 h less.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q hydra4==0.2.0 pypcd4==1.5.1 numpy==2.4.6
cat > "$tmp/decode.py" <<'PYTHON'
import struct
from datetime import datetime, timezone
from importlib.metadata import version

import numpy as np
from hydra4 import Hydra
from hydra4.msgs import pandar_msgs__msg__PandarPacket

block = b"".join(struct.pack("<HBB", 2500, 50, 0) for _ in range(32))  # every laser at 10 m
body = b"".join(struct.pack("<H", 18 * number) + block for number in range(8))
date = struct.pack("<6BI", 126, 1, 2, 3, 4, 5, 500_000)  # years since 1900, UTC, microseconds
tail = bytes(10) + bytes([0x37]) + struct.pack("<H", 600) + date + bytes(1)
header = bytes([0xEE, 0xFF, 6, 1, 0, 0, 32, 8, 0, 4, 1, 0])
packet = np.frombuffer(header + body + tail + bytes(4), np.uint8)
true = datetime(2026, 1, 2, 3, 4, 5, 500_000, timezone.utc).timestamp()
model = Hydra.Model.PandarXT32
decoder = model.decoder(model.calibration_path, 0.1, 120.0)
blocks = decoder(pandar_msgs__msg__PandarPacket(stamp=None, data=packet, size=len(packet)))
late = [block.points[0][-1] - true for block in blocks]
assert version("hydra4") == "0.2.0"
print(*(f"{seconds:.2f}" for seconds in late))
PYTHON
here=$(TZ=UTC0 "$tmp/venv/bin/python" "$tmp/decode.py")
tokyo=$(TZ=JST-9 "$tmp/venv/bin/python" "$tmp/decode.py")
printf 'hydra4 0.2.0, seconds after the packet: UTC: %s; Tokyo: %s\n' "$here" "$tokyo"
[ "$here" = "-346.72 -296.72 -246.72 -196.72 -146.72 -96.72 -46.72 3.28" ]
[ "$tokyo" = "-32746.72 -32696.72 -32646.72 -32596.72 -32546.72 -32496.72 -32446.72 -32396.72" ]
