"""A tree of frames with history: what tf2's buffer answers, without ROS."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.poses import interpolate_each, invert
from ov3d_perception.types import Pose, Poses, Stamps

SECOND = 1_000_000_000
_GAP = SECOND  # a shorter pause is interpolated, whatever the rate
_PAUSE, _NEAR = 5, 5  # a gap lasts as long as so many of the usual intervals, those of so many poses on either side
_MOVED_M, _TURNED_DEG = 0.2, 1.0  # across a gap: what moved less is believed to have stood


@dataclass
class _Edge:
    """The history of one child frame in its parent. ``stamps`` ascend; a static edge has one pose and no stamp."""

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    poses: dict[int, Pose] = field(default_factory=dict)

    def add(self, stamp: int, T_parent_child: Pose, history_ns: int | None) -> None:
        if stamp not in self.poses:
            insort(self.stamps, stamp)
        self.poses[stamp] = T_parent_child
        if history_ns is None:
            return
        expired = bisect_left(self.stamps, self.stamps[-1] - history_ns)
        for old in self.stamps[:expired]:
            del self.poses[old]
        del self.stamps[:expired]

    def at(self, stamps: Sequence[int]) -> Poses:
        """T_parent_child at each stamp: slerp inside the history, its nearest end outside.

        Raises TransformError for a stamp in a gap of the history.
        """
        if self.static:
            return self.poses[0][None]
        first, last = self.stamps[0], self.stamps[-1]
        poses, between, pairs, fractions = [], [], [], []
        for row, stamp in enumerate(stamps):
            inside = min(max(stamp, first), last)
            after = bisect_left(self.stamps, inside)
            t1 = self.stamps[after]
            poses.append(self.poses[t1])
            if t1 != inside:
                t0 = self.stamps[after - 1]
                if t1 - t0 > _GAP and (gap := self.gap(after)):
                    raise TransformError(f"No transform at {stamp / SECOND:.3f} s: {gap}", GAP_REMEDY)
                between.append(row)
                pairs.append(self.poses[t0])
                fractions.append((inside - t0) / (t1 - t0))
        found = np.stack(poses)
        if between:
            found[between] = interpolate_each(np.stack(pairs), found[between], np.array(fractions))
        return found

    def gap(self, after: int) -> str:
        """What forbids to interpolate between the stamps of number ``after`` - 1 and ``after``; "" if nothing does.

        tf2 interpolates over any time. A publisher of a pose now and then (a map's correction) has no gaps, nor has one
        that pauses while nothing moves.
        """
        t0, t1 = self.stamps[after - 1], self.stamps[after]
        if t1 - t0 <= _GAP:
            return ""
        sides = self.stamps[max(after - 1 - _NEAR, 0) : after], self.stamps[after : after + 1 + _NEAR]
        usual = np.concatenate([np.diff(side) for side in sides])
        if not len(usual) or t1 - t0 <= _PAUSE * np.median(usual):
            return ""
        step = invert(self.poses[t0]) @ self.poses[t1]
        moved = float(np.linalg.norm(step[:3, 3]))
        turned = float(np.degrees(np.arccos(np.clip((np.trace(step[:3, :3]) - 1) / 2, -1.0, 1.0))))
        if moved <= _MOVED_M and turned <= _TURNED_DEG:
            return ""
        return f"it pauses for {(t1 - t0) / SECOND:.1f} s and has moved by {moved:.1f} m and {turned:.0f} degrees then"

    def outside(self, stamp: int, tolerance_ns: int) -> bool:
        """Before the history or after it, by more than the tolerance."""
        return not self.static and not self.stamps[0] - tolerance_ns <= stamp <= self.stamps[-1] + tolerance_ns


_STATIC = " (static)"
GAP_REMEDY = "Find out why its publisher paused; what was measured meanwhile has no pose"


class ParentWatch:
    """Finds frames whose parent changes to and fro: two nodes publish them. A moving frame may change its parent once.

    forget_after: so many transforms with one parent end the trouble (a node was stopped); None: it is never forgotten.
    """

    def __init__(self, forget_after: int | None = None) -> None:
        self._forget_after = forget_after
        self._now: dict[str, str] = {}
        self._ever: dict[str, dict[str, None]] = {}
        self._changes: Counter[str] = Counter()
        self._steady: Counter[str] = Counter()

    def note(self, parent: str, child: str, static: bool) -> None:
        """A transform came."""
        name = f"'{parent}'" + (_STATIC if static else "")
        if self._now.get(child) == name:
            self._steady[child] += 1
            if self._steady[child] == self._forget_after:
                self._changes[child], self._ever[child] = 0, {name: None}
            return
        former = self._now.get(child, "")
        self._changes[child] += bool(former) + (static and former.endswith(_STATIC))  # static ones hold on, both
        self._steady[child] = 0
        self._now[child] = name
        self._ever.setdefault(child, {})[name] = None

    def fault_of(self, child: str) -> str:
        """Names the frame and its parents if it has several at once; "" if not."""
        if self._changes[child] < 2:
            return ""
        parents = sorted(self._ever[child])
        return f"Frame '{child}' has {len(parents)} parents at once: {' and '.join(parents)}"

    @property
    def faults(self) -> list[str]:
        """One line a frame with several parents."""
        return [fault for child in sorted(self._changes) if (fault := self.fault_of(child))]


PARENTS_REMEDY = "Stop one of the two publishers, or give its transform another child frame"


class TransformTree:
    """Frames, who carries whom, and where each was when. Safe to fill from one thread and ask from another.

    history_s: how many seconds of each moving edge are kept (behind its newest stamp); None keeps all, for bags.
    """

    def __init__(self, history_s: float | None = None) -> None:
        self._history_ns = None if history_s is None else int(history_s * SECOND)
        self._edges: dict[str, _Edge] = {}
        self._parents = ParentWatch(None if history_s is None else 200)
        self._skipped: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._lock = RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._lock = RLock()

    def copy(self) -> TransformTree:
        """Another tree with the same frames and histories: what is added to one is not in the other."""
        other = TransformTree()
        with self._lock:
            kept = {name: deepcopy(value) for name, value in self.__getstate__().items() if name != "_edges"}
            edges = {
                child: replace(edge, stamps=[*edge.stamps], poses={**edge.poses}) for child, edge in self._edges.items()
            }
        other.__dict__ |= {**kept, "_edges": edges}
        return other

    def skip(self, parent: str, child: str, reason: str) -> None:
        """Count a transform that cannot be used, as tf2 ignores it: NaN, a zero quaternion, a frame in itself."""
        with self._lock:
            edge = f"'{parent}' <- '{child}'"
            self._reasons.setdefault(edge, reason)
            self._skipped[edge] += 1

    @property
    def skipped(self) -> list[str]:
        """Transforms that could not be used: how many of which frames, and why the first of them."""
        with self._lock:
            return [
                f"{count} transforms {edge} skipped: {self._reasons[edge]}" for edge, count in self._skipped.items()
            ]

    @property
    def parent_faults(self) -> list[str]:
        """Frames with several parents at once."""
        with self._lock:
            return self._parents.faults

    def add(self, parent: str, child: str, stamp: int, T_parent_child: Pose, static: bool = False) -> None:
        """Record where ``child`` is in ``parent`` at ``stamp`` (ns; ignored for a static edge, which holds forever).

        A child that changes its parent, or becomes static, loses its former history, as in tf2.
        Raises TransformError for a pose that is not finite or an edge from a frame to itself.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        pose = np.asarray(T_parent_child, np.float64)
        if not parent or not child or parent == child:
            raise TransformError(
                f"A transform from frame '{child}' to parent '{parent}' is not an edge of a tree",
                "Give parent and child two different, non-empty frame names",
            )
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise TransformError(
                f"The transform {parent} <- {child} at {stamp} ns is not a finite 4x4 pose",
                "Check the node that publishes it (zero quaternion, NaN position)",
            )
        with self._lock:
            self._parents.note(parent, child, static)
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or edge.static != static:
                edge = self._edges[child] = _Edge(parent, static)
            if static:
                edge.poses[0] = pose
            else:
                edge.add(int(stamp), pose, self._history_ns)

    def lookup(self, target: str, source: str, stamp: int | None = None, tolerance_ns: int = 0) -> Pose:
        """T_target_source (maps coordinates in ``source`` to ``target``) at ``stamp`` (ns); None: the newest one.

        Positions are interpolated linearly, rotations by slerp. Outside the recorded history the nearest end answers
        if it is within ``tolerance_ns``; else TransformError, as for frames that do not exist or do not connect, and in
        gaps of seconds across which a frame has moved.
        """
        stamps = None if stamp is None else np.array([stamp], np.int64)
        return self.lookup_each(target, source, stamps, tolerance_ns)[0]

    def lookup_each(self, target: str, source: str, stamps: Stamps | None = None, tolerance_ns: int = 0) -> Poses:
        """:meth:`lookup` at each of these stamps, with one search in the tree and one interpolation an edge."""
        target, source = target.lstrip("/"), source.lstrip("/")
        if target == source:
            return np.tile(np.eye(4), (1 if stamps is None else len(stamps), 1, 1))
        with self._lock:
            try:
                up_source, up_target = self._chains(target, source)
                at = [self._newest_common(up_source + up_target)] if stamps is None else stamps.tolist()
                T_top_source = self._climb(up_source, target, source, at, tolerance_ns)
                T_top_target = self._climb(up_target, target, source, at, tolerance_ns)
            except TransformError as error:
                fault = self._fault_on_the_way(target, source)
                if not fault:
                    raise
                raise TransformError(f"{fault}. {error.cause}", PARENTS_REMEDY) from error
        return np.array([invert(T) for T in T_top_target]) @ T_top_source if up_target else T_top_source

    def lookup_known(
        self, target: str, source: str, stamps: Stamps, tolerance_ns: int = 0
    ) -> tuple[Bool[np.ndarray, " t"], Float64[np.ndarray, "_ 4 4"], list[str]]:
        """:meth:`lookup_each` at those of the stamps where it answers: which these are, the poses there, and why it
        does not answer at the others."""
        try:
            return np.ones(len(stamps), bool), self.lookup_each(target, source, stamps, tolerance_ns), []
        except TransformError:
            known, poses, problems = np.zeros(len(stamps), bool), [np.zeros((0, 4, 4))], list[str]()
        for number, stamp in enumerate(stamps):
            try:
                poses.append(self.lookup_each(target, source, stamp[None], tolerance_ns))
                known[number] = True
            except TransformError as error:
                problems.append(str(error))
        return known, np.concatenate(poses), problems

    def newest(self, target: str, source: str) -> int | None:
        """The newest stamp (ns) at which ``lookup`` answers; None if all edges between are static.

        Raises TransformError if the frames do not connect.
        """
        with self._lock:
            up_source, up_target = self._chains(target.lstrip("/"), source.lstrip("/"))
            ends = [self._edges[child].stamps[-1] for child in up_source + up_target if not self._edges[child].static]
        return min(ends) if ends else None

    def require_no_gap(self, target: str, source: str, stamps: Stamps) -> None:
        """Raise TransformError where the first or the last stamp is in a gap between frames that connect."""
        ends = int(stamps.min()), int(stamps.max())
        with self._lock:
            try:
                up_source, up_target = self._chains(target.lstrip("/"), source.lstrip("/"))
            except TransformError:
                return
            self._climb(up_source, target, source, ends, None)
            self._climb(up_target, target, source, ends, None)

    @property
    def gaps(self) -> list[str]:
        """Pauses of the history in which :meth:`lookup` does not answer; a line a frame."""
        with self._lock:
            return [line for child, edge in self._edges.items() if (line := self._gaps_of(child, edge))]

    def _gaps_of(self, child: str, edge: _Edge) -> str:
        long = np.flatnonzero(np.diff(edge.stamps) > _GAP) + 1
        found = {int(after): gap for after in long if (gap := edge.gap(int(after)))}
        if not found:
            return ""
        first, gap = next(iter(found.items()))
        more = f" ({len(found)} such gaps)" if len(found) > 1 else ""
        return f"'{edge.parent}' <- '{child}' has a gap at {edge.stamps[first - 1] / SECOND:.3f} s: {gap}{more}"

    def root(self, frame: str) -> str:
        """The frame at the top of the tree that ``frame`` is in. Raises TransformError for a loop."""
        with self._lock:
            return self._path_to_root(frame.lstrip("/"))[-1]

    def moves_under(self, frame: str, part: str) -> bool:
        """Whether ``part`` (base_link) hangs below ``frame`` (odom) and moves in it: ``frame`` is not on the robot."""
        frame, part = frame.lstrip("/"), part.lstrip("/")
        with self._lock:
            try:
                path = self._path_to_root(part)
            except TransformError:
                return False
            return frame in path and any(not self._edges[child].static for child in path[: path.index(frame)])

    @property
    def frames(self) -> list[str]:
        """Every frame known, sorted."""
        with self._lock:
            return sorted(set(self._edges) | {edge.parent for edge in self._edges.values()})

    def clear(self) -> None:
        """Forget all moving edges (time jumped back); static ones stay."""
        with self._lock:
            self._edges = {child: edge for child, edge in self._edges.items() if edge.static}

    def _fault_on_the_way(self, *frames: str) -> str:
        ways = (frame for start in frames for frame in self._path_to_root(start))
        return next((fault for frame in ways if (fault := self._parents.fault_of(frame))), "")

    def _path_to_root(self, frame: str) -> list[str]:
        path = [frame]
        while (edge := self._edges.get(path[-1])) is not None:
            if edge.parent in path:
                raise TransformError(
                    f"The frames {' -> '.join([*path, edge.parent])} form a loop",
                    "Stop the second publisher of one of these transforms",
                )
            path.append(edge.parent)
        return path

    def _chains(self, target: str, source: str) -> tuple[list[str], list[str]]:
        """Children to climb from source and from target to their lowest common ancestor."""
        known = self.frames
        for frame in (target, source):
            if frame not in known and target != source:
                raise TransformError(
                    f"No frame '{frame}' in TF: known are {', '.join(known) or 'none'}",
                    f"Publish a transform that connects '{target}' and '{source}' on /tf or /tf_static, "
                    "or correct the frame's name",
                )
        path_source, path_target = self._path_to_root(source), self._path_to_root(target)
        common = next((frame for frame in path_source if frame in path_target), None)
        if common is None:
            raise TransformError(
                f"Frames '{target}' and '{source}' are in two unconnected trees "
                f"(roots '{path_target[-1]}' and '{path_source[-1]}')",
                "Publish the transform between the two trees",
            )
        return path_source[: path_source.index(common)], path_target[: path_target.index(common)]

    def _newest_common(self, chain: list[str]) -> int:
        ends = [self._edges[child].stamps[-1] for child in chain if not self._edges[child].static]
        return min(ends) if ends else 0

    def _climb(
        self, chain: list[str], target: str, source: str, stamps: Sequence[int], tolerance_ns: int | None
    ) -> Poses:
        """T_top_chain at each stamp; tolerance_ns: None for any."""
        T = np.tile(np.eye(4), (len(stamps), 1, 1))
        for child in chain:
            edge = self._edges[child]
            for stamp in (min(stamps), max(stamps)):
                if tolerance_ns is not None and edge.outside(stamp, tolerance_ns):
                    raise self._outside(edge, child, target, source, stamp)
            try:
                T = edge.at(stamps) @ T
            except TransformError as error:
                raise TransformError(f"{edge.parent} <- {child}: {error.cause}", error.remedy) from None
        return T

    @staticmethod
    def _outside(edge: _Edge, child: str, target: str, source: str, stamp: int) -> TransformError:
        first, last = edge.stamps[0], edge.stamps[-1]
        if stamp > last:
            where = f"{(stamp - last) / SECOND:.3f} s newer than the last"
            remedy = "Wait for it, or check its publisher"
        else:
            where = f"{(first - stamp) / SECOND:.3f} s older than the first"
            remedy = "Keep a longer history"
        return TransformError(
            f"No transform {target} <- {source} at {stamp / SECOND:.3f} s: the stamp is {where} of {edge.parent} <- "
            f"{child}",
            f"{remedy}, and check that all machines and use_sim_time agree on the clock",
        )
