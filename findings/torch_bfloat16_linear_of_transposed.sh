#!/usr/bin/env bash
# torch 2.13.0+cpu, torch.nn.functional.linear on a CPU: a bfloat16 input (tokens, batch, channels) that is a transposed
# (batch, tokens, channels), as nn.MultiheadAttention(batch_first=True) hands it to its input projection off the fast path,
# is multiplied by a copy of the weights FOR EACH TOKEN (it becomes a bmm). A ViT-B/16's projection of 197 tokens of 2 images
# takes some 100 times as long as of the same tokens made contiguous first, in float32 4 times; a batch of one image has
# no such view and is fast. So image towers under bfloat16 autocast get slower by batching: open_clip's ViT-B-16 takes
# seven times as long for 8 crops in one batch as for the 8 one by one (torch 2.15.0).
# Seen here: transposed / contiguous 103 in bfloat16, 4.6 in float32 (medians, one thread; 111 and 3.6 with 2.15.0).
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q torch==2.13.0+cpu numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys
import time

import torch
from torch.nn.functional import linear

torch.set_num_threads(1)
torch.manual_seed(0)


def ratio(dtype):
    """Median seconds of the transposed input's product by those of a contiguous copy of it."""
    weight, tokens = torch.randn(2304, 768, dtype=dtype), torch.randn(2, 197, 768, dtype=dtype)
    views = (tokens.transpose(0, 1), tokens.transpose(0, 1).contiguous())
    assert torch.allclose(linear(views[0], weight).float(), linear(views[1], weight).float(), atol=1.0)
    taken = [[], []]
    for _ in range(5):
        for times, view in zip(taken, views):
            start = time.perf_counter()
            linear(view, weight)
            times.append(time.perf_counter() - start)
    return sorted(taken[0])[2] / sorted(taken[1])[2]


half, single = ratio(torch.bfloat16), ratio(torch.float32)
print(torch.__version__, f"transposed / contiguous: bfloat16 {half:.0f}, float32 {single:.1f}")
sys.exit(0 if half > 30 and half > 4 * single else "changed: bfloat16 pays less for the transposed input")
PYTHON
