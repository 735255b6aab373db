"""Is the calibration between LiDAR and cameras right? Measured over many frames of a bag, with what can be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation
from scipy.stats import chi2, t

from ov3d_perception.doctor.alignment import Alignment, Edges, align, edges_of
from ov3d_perception.doctor.report import Finding, Severity
from ov3d_perception.doctor.silhouettes import silhouettes
from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.poses import invert
from ov3d_perception.types import Frame, Poses, Stamps, View

CHECK = "calibration"
_SURE = 0.9995  # of one figure; a report has dozens
_AGREE = 0.15  # mean nearness to edges below which the points hardly meet edges
_WRONG = np.array([0.35, 0.35, 0.5, 0.035, 0.035, 0.035, 0.02])  # degrees, metres, seconds: smaller is called right
_HARMLESS = np.array([0.5, 0.5, 1.0, 0.05, 0.05, 0.05, 0.03])  # what must be excluded to call it right
_MOST_BETTER, _NEARLY_ALL_BETTER = 0.65, 0.75  # share of witnesses that must prefer an offset, a far one
_APART_DEG, _FAR_DEG, _SIGMAS = 0.6, 1.5, 3.5
_STEP_NS = 50_000_000
_SLOW = 0.5  # m/s or rad/s * 10 m: slower motion tells no delay

PosesAt = Callable[[Stamps], Poses]  # T_world_lidar at each stamp (ns); TransformError where one is unknown


def check(frames: Iterable[Frame], poses_at: PosesAt | None = None, more: Iterable[Frame] = ()) -> list[Finding]:
    """One finding a camera. poses_at: where the LiDAR is in the frames' world; without, there is no delay to be told,
    and what looks wrong may be the robot's own motion. more: read only for cameras that ``frames`` do not tell enough
    of, which are then judged by both."""
    edges: dict[str, list[Edges]] = {}
    _collect(edges, frames, poses_at)
    found = {name: judge(name, align(seen), poses_at is not None) for name, seen in edges.items()}
    unsure = {name: edges[name] for name, one in found.items() if one.severity is Severity.UNKNOWN}
    told = {name: len(seen) for name, seen in unsure.items()}
    if unsure:
        _collect(unsure, more, poses_at, alone=True)
    for name, seen in unsure.items():
        if len(seen) > told[name]:
            found[name] = judge(name, align(seen), poses_at is not None)
    return list(found.values())


def _collect(
    edges: dict[str, list[Edges]], frames: Iterable[Frame], poses_at: PosesAt | None, alone: bool = False
) -> None:
    """Add what the frames say of each camera; alone: of those that there are already."""
    for frame in frames:
        key = frame.sweeps[0]
        views = [view for view in frame.views if not alone or view.camera.name in edges]
        outline = silhouettes(key.scan) if views else None
        for view in views:
            assert outline is not None
            twist = None if poses_at is None else twist_of(view, poses_at)
            edges.setdefault(view.camera.name, []).append(edges_of(outline, key.T_world_lidar, view, twist))


def twist_of(view: View, poses_at: PosesAt) -> Float64[np.ndarray, " 6"] | None:
    """How the world turns (rad/s) and moves (m/s) past a camera, in its frame; None where unknown or slow."""
    try:
        before, at, after = poses_at(view.stamp + np.array([-_STEP_NS, 0, _STEP_NS]))
    except TransformError:
        return None
    T_lidar_camera = invert(at) @ view.T_world_camera
    step = invert(after @ T_lidar_camera) @ before @ T_lidar_camera
    seconds = 2 * _STEP_NS * 1e-9
    twist = np.r_[Rotation.from_matrix(step[:3, :3]).as_rotvec(), step[:3, 3]] / seconds
    return twist if np.linalg.norm(twist[3:]) > _SLOW or 10 * np.linalg.norm(twist[:3]) > _SLOW else None


def judge(camera: str, found: Alignment | None, placed: bool = True) -> Finding:
    """Wrong, right, or not to be told; with the figures. placed: whether the frames' poses are known."""
    why = "A turn of 1 degree paints points at 30 m with the pixels of half a metre beside them"
    if found is None or found.agreement[1] < _AGREE:
        points = 0 if found is None else found.points
        what = f"the calibration cannot be checked: {points} edge points hardly meet edges of the images"
        remedy = "Record a drive past poles, trunks, cars or door frames"
        return Finding(Severity.UNKNOWN, CHECK, camera, what, why, remedy, {"points": points})
    offsets, sd = np.r_[found.turn, found.shift, found.delay], np.r_[found.turn_sd, found.shift_sd, found.delay_sd]
    count = 7 if found.moving else 6
    sure = float(t.ppf(_SURE, max(found.witnesses - count, 1)))
    wrong = [i for i in range(count) if abs(offsets[i]) > max(_WRONG[i], sure * sd[i])]
    gained = found.gain > chi2.ppf(_SURE, count)
    enough = _NEARLY_ALL_BETTER if found.apart_deg > _FAR_DEG else _MOST_BETTER
    figures, basis = _figures(found), _basis(found)
    apart = gained and found.apart_deg > max(_APART_DEG, _SIGMAS * found.apart_sd)
    if found.better >= enough and (wrong or apart):
        sure_of = "" if wrong else "; which of these it is, is less sure than that it is wrong"
        named = wrong or [i for i in range(count) if abs(offsets[i]) > _WRONG[i]] or [int(np.argmax(offsets[:3] ** 2))]
        what = f"{_named(named, offsets, sd)}; points lie {found.apart_deg:.2f} degrees off{sure_of}; {basis}"
        if placed:
            return Finding(Severity.ERROR, CHECK, camera, what, why, _remedy(named), figures)
        what += "; or the robot moved between the points and the image: it has no poses that would tell"
        return Finding(Severity.WARNING, CHECK, camera, what, why, _UNPLACED, figures)
    unsure = [i for i in range(count) if abs(offsets[i]) + 2 * sd[i] > _HARMLESS[i]]
    within = ", ".join(f"{name} {2 * value:.2g} {unit}" for name, value, unit in _spans(sd, found.moving))
    lie = f"points lie {found.apart_deg:.2f} +- {found.apart_sd:.2f} degrees from the best"
    if wrong or found.apart_deg + 2 * found.apart_sd > _APART_DEG:
        what = f"whether the calibration is right cannot be told: {lie}, known within {within} (two sigma); {basis}"
        return Finding(
            Severity.UNKNOWN, CHECK, camera, what, why, "Give it more frames, with more upright edges", figures
        )
    known = "" if not unsure else f", known within {within} (two sigma)"
    what = f"the calibration is right: {lie}{known}; {basis}"
    return Finding(Severity.GOOD, CHECK, camera, what, figures=figures)


_UNPLACED = "Give it poses (ov3d bag odometry, then --tf); if it stays so, calibrate the camera's place anew"
_AXES = ("pitch", "yaw", "roll", "right", "down", "ahead", "late")


def _named(entries: list[int], offsets: np.ndarray, sd: np.ndarray) -> str:
    words = []
    for i in entries:
        if i < 3:
            words.append(
                f"the camera is turned by {-offsets[i]:+.2f} +- {sd[i]:.2f} degrees in {_AXES[i]} from what TF says"
            )
        elif i < 6:
            words.append(
                f"the camera is {-offsets[i] * 100:+.1f} +- {sd[i] * 100:.1f} cm farther {_AXES[i]} than TF says"
            )
        else:
            side = "later" if offsets[i] > 0 else "earlier"
            size = f"{abs(offsets[i]) * 1e3:.0f} +- {sd[i] * 1e3:.0f} ms"
            words.append(f"the images' stamps are {size} {side} than the moment that they show")
    return "; ".join(words)


def _remedy(entries: list[int]) -> str:
    if entries == [6]:
        return "Correct the camera's stamps (exposure, driver, clock), or synchronise it by PTP or a trigger"
    return "Calibrate the camera's place against the LiDAR anew, or correct its static transform by these figures"


def _spans(sd: np.ndarray, moving: bool) -> Iterator[tuple[str, float, str]]:
    yield "turn", float(sd[:2].max()), "degrees"
    yield "roll", float(sd[2]), "degrees"
    yield "place", float(sd[3:6].max() * 100), "cm"
    if moving:
        yield "time", float(sd[6] * 1e3), "ms"


def _basis(found: Alignment) -> str:
    motion = "" if found.moving else "; no motion tells the time"
    return f"{found.points} edge points of {found.frames} images{motion}"


def _figures(found: Alignment) -> dict[str, object]:
    rounded = {
        "turn_deg": (found.turn, found.turn_sd),
        "shift_m": (found.shift, found.shift_sd),
    }
    figures: dict[str, object] = {
        name: {"value": value.round(4).tolist(), "sd": sd.round(4).tolist()} for name, (value, sd) in rounded.items()
    }
    if found.moving:
        figures["delay_s"] = {"value": round(found.delay, 4), "sd": round(found.delay_sd, 4)}
    figures["apart_deg"] = {"value": round(found.apart_deg, 3), "sd": round(found.apart_sd, 3)}
    figures["agreement"] = [round(x, 3) for x in found.agreement]
    figures["better"], figures["gain"] = round(found.better, 3), round(found.gain, 1)
    figures["witnesses"], figures["points"], figures["frames"] = found.witnesses, found.points, found.frames
    return figures
