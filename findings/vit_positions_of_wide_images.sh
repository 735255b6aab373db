#!/usr/bin/env bash
# open_clip_torch 3.3.0, resize_pos_embed, which its load_checkpoint calls, and timm 1.0.31, checkpoints that come by a
# pretrained_cfg: a ViT's position embeddings are resized to another input size as if their grid were SQUARE, the
# root of their number. A network for a vehicle's camera is wide: 128 x 512 pixels in patches of 16 are 8 x 32 = 256 tokens,
# which both take for 16 x 16. The rows are broken in two and interpolated across the breaks; every patch is told a wrong
# place, and nothing is said. Where the new grid has as many tokens (16 x 16) both load it without any resizing. timm's
# set_input_size, which knows the old grid, is right. (A number that is no square, 8 x 24, raises.)
# Seen here: embeddings that hold their own row and column, from 0 to 1, loaded for 160 x 640: columns off by up to 0.30 of
# the image's width with both, 0.005 by set_input_size.
# torchvision's wheel for CUDA lacks its operators beside a torch for CPUs; two are declared, since it asks for them on import.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q torch==2.13.0+cpu torchvision==0.28.0 open_clip_torch==3.3.0 timm==1.0.31 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from importlib.metadata import version

import torch

declared = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
from open_clip.model import CLIP, resize_pos_embed  # noqa: E402

WIDE, WIDER = (128, 512), (160, 640)


def places(rows, columns):
    """Row and column of each patch, 0 to 1, row by row: (rows * columns, 2)."""
    return torch.cartesian_prod(torch.linspace(0, 1, rows), torch.linspace(0, 1, columns))


def columns_off(embeddings, grid):
    return (embeddings[-grid[0] * grid[1] :, :2].detach() - places(*grid)).abs().max(0).values[1].item()


def clip(size):
    return CLIP(64, {"image_size": size, "layers": 1, "width": 64, "patch_size": 16, "head_width": 16},
                {"context_length": 8, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1})  # fmt: skip


def vit(size, **kwargs):
    return timm.create_model("vit_tiny_patch16_224", img_size=size, num_classes=0, **kwargs)


old, new = clip(WIDE), clip(WIDER)
old.visual.positional_embedding.data[1:, :2] = places(8, 32)
state = old.state_dict()
resize_pos_embed(state, new)
new.load_state_dict(state)
off = {"open_clip": columns_off(new.visual.positional_embedding, (10, 40))}

wide = vit(WIDE)
wide.pos_embed.data[0, 1:, :2] = places(8, 32)
torch.save(wide.state_dict(), file := f"{sys.argv[1]}/wide.pth")
overlay = {"file": file, "custom_load": False, "num_classes": 0}
off["timm"] = columns_off(vit(WIDER, pretrained=True, pretrained_cfg_overlay=overlay).pos_embed[0], (10, 40))
wide.set_input_size(WIDER)
off["set_input_size"] = columns_off(wide.pos_embed[0], (10, 40))
print("open_clip", version("open_clip_torch"), "timm", timm.__version__, "columns off by, of the width:", off)
same = off["open_clip"] > 0.25 and off["timm"] > 0.25 and off["set_input_size"] < 0.02
sys.exit(0 if same else "changed: wide grids keep their places, or are refused")
PYTHON
