"""Where the shipped files are: a source tree, a pip install (<prefix>/share) or a colcon install."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ov3d_perception.errors import DatasetError

PACKAGE = "ov3d_perception"


def share_dir() -> Path:
    """The folder that holds ``launch/``, ``config/`` and ``models/``.

    Order: ``$OV3D_SHARE``, the source tree this file lies in, ``<prefix>/share/ov3d_perception`` of this Python,
    the same under each prefix of ``$AMENT_PREFIX_PATH``.
    """
    candidates = [Path(os.environ["OV3D_SHARE"])] if "OV3D_SHARE" in os.environ else []
    candidates.append(Path(__file__).resolve().parents[1])
    prefixes = [sys.prefix, *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    candidates += [Path(prefix) / "share" / PACKAGE for prefix in prefixes if prefix]
    for candidate in candidates:
        if (candidate / "config").is_dir() and (candidate / "package.xml").is_file():
            return candidate
    raise DatasetError(
        f"{PACKAGE}'s launch, config and models folders are in none of {[str(c) for c in candidates]}",
        "Install with `pip install .` or `colcon build`, or set OV3D_SHARE to the source tree",
    )


def shipped(name: str) -> str:
    """``name`` itself, unless it is a relative path that exists in :func:`share_dir` and not in the working directory.

    So that "models/street_clip" in a recipe or a checkpoint means the shipped one wherever a program is started.
    """
    path = Path(name)
    if not name or path.is_absolute() or path.exists() or not (share_dir() / path).exists():
        return name
    return str(share_dir() / path)


def cache_dir() -> Path:
    """Where computed, re-creatable files go: ``$OV3D_CACHE`` or ``~/.cache/ov3d``. Created on first use."""
    path = Path(os.environ.get("OV3D_CACHE", Path.home() / ".cache" / "ov3d"))
    path.mkdir(parents=True, exist_ok=True)
    return path
