"""The scans of a bag, without its images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ov3d_perception.bags.clouds import choose_cloud
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.datasets.bag import Bag
from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.errors import NoPosesError

_log = logging.getLogger(__name__)


def scans_of_bag(path: Path, options: dict[str, Any], framed: bool) -> Bag:
    """The scans of a bag; in the LiDAR's own frame, and one by one, where no other frame is known and none was named.

    options: of :class:`Bag`. framed: a fixed frame was named; then its absence is an error.
    Raises BagError and DatasetError as :class:`Bag`.
    """
    try:
        return _opened(path, options)
    except NoPosesError as error:
        if framed:
            raise
        with open_bag(path) as bag:
            frame = next(iter(bag.messages([choose_cloud(bag, options.get("points"))]))).decode().header.frame_id
        _log.warning("%s: %s. The scans are read one by one, not de-skewed", path, error.cause)
        return _opened(path, {**options, "fixed_frame": frame, "deskew": False, "sweeps": 1})


def _opened(path: Path, options: dict[str, Any]) -> Bag:
    source = open_dataset("bag", path, **{**options, "images": False})
    assert isinstance(source, Bag)
    return source
