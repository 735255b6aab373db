"""What the calibration check of ``ov3d doctor`` finds: as calibrated, and with an error put in, on real data.

    python benchmarks/calibration.py semantickitti FOLDER
    python benchmarks/calibration.py nuscenes_keyframe FOLDER

A row a camera and sequence: for each error the verdict (good, unknown, error), and the offset that was measured where
it was put in, with its standard deviation. Errors are put into the points as the camera's frame has them. Poses, where
the data set has any, are interpolated between its scans.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.doctor.alignment import Edges, align, edges_of
from ov3d_perception.doctor.calibration import judge, twist_of
from ov3d_perception.doctor.drives import drives_of
from ov3d_perception.doctor.silhouettes import silhouettes
from ov3d_perception.types import Frame

# turn (degrees), shift (metres), delay (seconds), and which of the seven it is
ERRORS: dict[str, tuple[list[float], int]] = {
    "none": ([0, 0, 0, 0, 0, 0, 0], -1),
    "pitch +1": ([1, 0, 0, 0, 0, 0, 0], 0),
    "pitch -1": ([-1, 0, 0, 0, 0, 0, 0], 0),
    "yaw +1": ([0, 1, 0, 0, 0, 0, 0], 1),
    "yaw -1": ([0, -1, 0, 0, 0, 0, 0], 1),
    "yaw +3": ([0, 3, 0, 0, 0, 0, 0], 1),
    "roll +1": ([0, 0, 1, 0, 0, 0, 0], 2),
    "x +5 cm": ([0, 0, 0, 0.05, 0, 0, 0], 3),
    "y -5 cm": ([0, 0, 0, 0, -0.05, 0, 0], 4),
    "z +5 cm": ([0, 0, 0, 0, 0, 0.05, 0], 5),
    "+50 ms": ([0, 0, 0, 0, 0, 0, 0.05], 6),
    "-50 ms": ([0, 0, 0, 0, 0, 0, -0.05], 6),
}
UNITS = np.array([1, 1, 1, 100, 100, 100, 1000])  # degrees, cm, ms


def by_camera(frames: list[Frame]) -> Iterator[tuple[str, list[Edges]]]:
    """Edges of each drive and camera."""
    found: dict[str, list[Edges]] = {}
    for name, drive in drives_of(frames).items():
        for frame in drive.frames:
            key = frame.sweeps[0]
            outline = silhouettes(key.scan)
            for view in frame.views:
                twist = twist_of(view, drive.poses_at) if drive.placed else None
                edges = edges_of(outline, key.T_world_lidar, view, twist)
                found.setdefault(f"{name} {view.camera.name}".strip(), []).append(edges)
    yield from found.items()


def with_error(edges: Edges, error: list[float]) -> Edges:
    """The points where a calibration with this error would put them."""
    R = Rotation.from_rotvec(np.radians(error[:3])).as_matrix()
    points = []
    for own in edges.points:
        drift = 0 * own if edges.twist is None else np.cross(edges.twist[:3], own) + edges.twist[3:]
        points.append(own @ R.T + np.array(error[3:6]) + error[6] * drift)
    return replace(edges, points=(points[0], points[1]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("root")
    given = parser.parse_args()
    options = {"labels": False} if given.dataset == "semantickitti" else {}
    print("| where |", " | ".join(ERRORS), "|")
    print("|---" * (len(ERRORS) + 1) + "|")
    for name, edges in by_camera(list(open_dataset(given.dataset, given.root, **options))):
        cells = []
        for error, entry in ERRORS.values():
            if entry == 6 and all(one.twist is None for one in edges):
                cells.append("")
                continue
            found = align([with_error(one, error) for one in edges])
            cell = judge(name, found).severity.name.lower()
            if found is not None and entry >= 0:
                measured = np.r_[-found.turn, -found.shift, found.delay] * UNITS
                sd = np.r_[found.turn_sd, found.shift_sd, found.delay_sd] * UNITS
                cell += f" {measured[entry]:.2g} ± {sd[entry]:.1g}"
            elif found is not None:
                cell += f" {found.apart_deg:.2f}°"
            cells.append(cell)
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
