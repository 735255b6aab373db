"""Which worlds a text and which scenes a split names, and the two meanings of "1 %" in the field."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TypeVar

import yaml

from ov3d_perception.errors import DatasetError

Item = TypeVar("Item")
FOLDER = files("ov3d_perception.datasets") / "splits"
SCENES, KEY_FRAMES, SCANS = "1%-scenes", "1%-keyframes", "1%-scans"  # names of the subsets
STEP = 100


def ranges(text: str) -> tuple[int, ...]:
    """The integers that a text such as "0-19, 1000" names, in its order. Raises ValueError where that is no number."""
    parts = [part.split("-") for part in "".join(text.split()).split(",") if part]
    return tuple(number for part in parts for number in range(int(part[0]), int(part[-1]) + 1))


def parse_seeds(seeds: Sequence[int] | str | int) -> tuple[int, ...]:
    """Seeds from integers, one integer, or "0-19,1000". Raises DatasetError where there is none or it is no number."""
    try:
        found = ranges(str(seeds)) if isinstance(seeds, str | int) else tuple(int(seed) for seed in seeds)
    except (ValueError, TypeError) as error:
        raise DatasetError(f"Seeds {seeds!r} cannot be read", 'Give numbers, or a string like "0-19,1000"') from error
    if not found or min(found) < 0:
        raise DatasetError(f"Seeds {seeds!r} name none", 'Give numbers from 0, or a string like "0-19,1000"')
    return found


def nuscenes_scenes(split: str) -> tuple[str, ...]:
    """Names of a split's scenes: train, val, test, mini_train, mini_val, slidr_train (600) or slidr_aside (100).

    The two of SLidR divide ``train``: pre-training on the one, choice of settings on the other (there "parametrizing"
    and "verifying"). Raises DatasetError for any other name.
    """
    numbers = {name: ranges(text) for name, text in yaml.safe_load((FOLDER / "nuscenes.yaml").read_text()).items()}
    aside = set(numbers["slidr_aside"])
    numbers["slidr_train"] = tuple(number for number in numbers["train"] if number not in aside)
    if split not in numbers:
        raise DatasetError(f"nuScenes has no split {split!r}", f"Use one of {', '.join(sorted(numbers))}")
    return tuple(f"scene-{number:04d}" for number in numbers[split])


def every_hundredth_scene(scenes: Sequence[Item]) -> list[Item]:
    """SLidR's 1 %: the 100th, the 200th, ... scene (7 of the 700), in the order of ``scene.json``."""
    return list(scenes[STEP - 1 :: STEP])


def every_hundredth_frame(frames: Sequence[Item]) -> list[Item]:
    """CLIP2Scene's 1 %: the first, the 101st, ... frame of all (282 of nuScenes' 28130 key frames)."""
    return list(frames[::STEP])
