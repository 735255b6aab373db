"""``map_node``'s file: saved and loaded on demand, loaded at start, saved now and then and at the end.

A file that could not be loaded at start is never overwritten, except by an explicit call.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from ov3d_msgs.srv import LoadMap, SaveMap
from ov3d_perception.errors import IdentityError, MapFileError, Ov3dError
from ov3d_perception.mapping.save_load import MapInfo, read_info
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.mapping.session import MapSession
from ov3d_perception.ros import parameters
from ov3d_perception.ros.diagnostics import Health
from ov3d_perception.ros.parameters import parameter

_CONDITION = "map file"


@dataclass(frozen=True)
class StorageParameters:
    """The file, and when it is written automatically."""

    map_file: str = parameter(
        "",
        "Map file (.ov3dmap) that is loaded at start if it is there, and that is meant where a call names none; empty: "
        "none",
        read_only=True,
    )
    autosave_period: float = parameter(
        0.0,
        "Time between two saves to map_file, if the map has changed [s]; 0: never",
        minimum=0.0,
        maximum=86400.0,
        read_only=True,
    )
    save_at_exit: bool = parameter(False, "Save to map_file when the node ends")


class MapStorage:
    """``~/save_map`` and ``~/load_map``, and saves and loads without a call.

    They have a callback group of their own and run one after the other; see :mod:`mapping.save_load` for the locks.
    """

    def __init__(self, node: Node, health: Health, session: MapSession) -> None:
        self._node, self._health, self._session = node, health, session
        self._lock = threading.Lock()  # one save or load at a time, that at the end included
        self._saved: tuple[weakref.ref[SemanticMap] | None, int] = (None, 0)  # map and revision that are in the file
        self._spoilt = False  # the file is there and is not a map that this node continues: do not overwrite it
        values = parameters.read(node, StorageParameters)
        self._file = values.map_file
        group, wall = MutuallyExclusiveCallbackGroup(), Clock(clock_type=ClockType.STEADY_TIME)
        node.create_service(SaveMap, "~/save_map", self._on_save, callback_group=group)
        node.create_service(LoadMap, "~/load_map", self._on_load, callback_group=group)
        if (values.autosave_period > 0 or values.save_at_exit) and not self._file:
            self._complain(MapFileError("The map cannot save itself: map_file is empty", "Set map_file"))
        if values.autosave_period > 0 and self._file:
            node.create_timer(values.autosave_period, self.autosave, callback_group=group, clock=wall)
        self._load_at_start()

    def close(self) -> None:
        """Save, if that is wanted; after the last integration."""
        if self._file and parameters.read(self._node, StorageParameters).save_at_exit:
            self.autosave()

    def autosave(self) -> None:
        """Save the map if it has changed. Never raises: errors are on /diagnostics."""
        semantic_map = self._session.map
        if semantic_map is None or self._saved == (weakref.ref(semantic_map), semantic_map.revision):
            return
        try:
            self._require_own(semantic_map)
            self._save(self._file)
        except Exception as error:  # the timer must go on
            self._complain(error)

    def _load_at_start(self) -> None:
        try:
            if self._file and _place(self._file).exists():
                self._load(self._file, merge=False)
        except Exception as error:  # whatever it is, the robot can map
            self._spoilt = True
            self._complain(error, "The map starts empty, and nothing is saved to this file by itself. ")

    def _on_save(self, request: SaveMap.Request, response: SaveMap.Response) -> SaveMap.Response:
        try:
            semantic_map = self._session.map
            if semantic_map is None:
                raise MapFileError("Nothing has been mapped yet", "Drive on, or see /diagnostics for what hinders")
            path = self._named(request.path)
            if not request.path:
                self._require_own(semantic_map)
            new = not _place(path).parent.exists()
            info = self._save(path)
            response.success, response.voxels = True, info.voxels
            response.message = f"Saved {info.voxels} voxels to {info.path} ({info.size / 1e6:.1f} MB)"
            response.message += ". Its folder was made" if new else ""
        except Exception as error:
            response.success, response.message = False, self._complain(error)
        return response

    def _on_load(self, request: LoadMap.Request, response: LoadMap.Response) -> LoadMap.Response:
        try:
            response.message = self._load(self._named(request.path), request.merge)
            response.success = True
        except Exception as error:
            response.success, response.message = False, self._complain(error)
        semantic_map = self._session.map
        response.voxels = len(semantic_map) if semantic_map is not None else 0
        return response

    def _named(self, path: str) -> str:
        if not path and not self._file:
            raise MapFileError("The call names no file, and map_file is empty", "Name one in `path`")
        return path or self._file

    def _save(self, path: str) -> MapInfo:
        with self._lock, self._health.timed("save"):
            info, semantic_map, revision = self._session.save(path)
        self._in_file(path, semantic_map, revision)
        self._settled(f"{info.path}: {info.voxels} voxels saved {time.strftime('%H:%M:%S')}")
        return info

    def _load(self, path: str, merge: bool) -> str:
        """What was done, for people. Raises MapFileError or IdentityError, and then nothing has changed."""
        merge = merge and self._session.map is not None
        with self._lock, self._health.timed("load"):
            if merge:
                info = self._session.merge(path)
            else:
                info, loaded = self._session.load(path)
                self._in_file(path, loaded, loaded.revision)
        text = f"{'Merged' if merge else 'Loaded'} {info.voxels} voxels of {info.voxel_size:g} m from {info.path}"
        self._settled(text)
        return text

    def _in_file(self, path: str, semantic_map: SemanticMap, revision: int) -> None:
        """Note that map_file, if it is that, holds the map."""
        if self._file and _place(path) == _place(self._file):
            self._saved, self._spoilt = (weakref.ref(semantic_map), revision), False

    def _require_own(self, semantic_map: SemanticMap) -> None:
        """Raise if the file is another map than this one: only an explicit call overwrites it then."""
        if self._spoilt:
            raise MapFileError(f"{self._file} was not loaded at start", "Move it away, or name a path in ~/save_map")
        if _place(self._file).exists():
            info, state = read_info(self._file), semantic_map.state()
            own = info.network in (semantic_map.basis_id, *self._session.former)
            if not own or not info.identity.compatible(state.identity):
                raise IdentityError(
                    f"{self._file} is the map of another network ({info.identity}, basis {info.network[:12]})",
                    "Move it away, or name a path in ~/save_map",
                )

    def _settled(self, text: str) -> None:
        self._health.clear(_CONDITION)
        self._health.value("map file", text)
        self._node.get_logger().info(text)

    def _complain(self, error: Exception, consequence: str = "") -> str:
        known = error if isinstance(error, Ov3dError) else MapFileError(f"{type(error).__name__}: {error}", "Report it")
        text = self._health.fail(_CONDITION, MapFileError(consequence + known.cause, known.remedy))
        self._node.get_logger().error(text)
        return text


def _place(path: str) -> Path:
    return Path(path).expanduser().resolve()
