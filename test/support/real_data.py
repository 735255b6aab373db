"""Where the real recordings are that some tests run on; without them these tests skip."""

from __future__ import annotations

import os
from pathlib import Path

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"


def data_dir() -> Path | None:
    """``$OV3D_TEST_DATA``, or ``../shared/data`` beside the source tree; None where there is no such folder."""
    path = Path(os.environ.get("OV3D_TEST_DATA", _BESIDE))
    return path if path.is_dir() else None
