"""The message types that bags are read and written with: those of ROS 2 Jazzy, ov3d_msgs and Livox, through rosbags."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache, lru_cache
from pathlib import Path

from rosbags.interfaces.typing import Typesdict
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from ov3d_perception.bags import livox

_log = logging.getLogger(__name__)
PACKAGES = {"ov3d_msgs": "ov3d_msgs", "vision_msgs": "pip_ros/vision_msgs"}
"""Whose .msg files are looked for, and where they are in the source tree."""


@cache
def typestore() -> Typestore:
    """One store for the process: Jazzy's interfaces, Livox's clouds and, where found, those of :data:`PACKAGES`.

    The fields of these types are the same in Humble, Jazzy and Lyrical. Opening a bag adds the definitions that the
    bag stores.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for package in PACKAGES:
        for path in _message_files(package):
            types.update(get_types_from_msg(path.read_text(), f"{package}/msg/{path.stem}"))
    for package in livox.PACKAGES:
        types.update(get_types_from_msg(livox.POINT, f"{package}/msg/CustomPoint"))
        types.update(get_types_from_msg(livox.CLOUD.format(package=package), f"{package}/msg/CustomMsg"))
    store.register(types)
    return store


def learn(msgtype: str, definition: str, idl: bool = False) -> bool:
    """Add the type and those it is made of, from the text that a bag stores; known types stay as they are.

    definition: concatenated .msg text, or IDL. Returns True if the type is known afterwards.
    """
    store = typestore()
    if msgtype in store.fielddefs:
        return True
    types = _parsed(msgtype, definition, idl)
    store.register({name: fields for name, fields in types.items() if name not in store.fielddefs})
    return msgtype in store.fielddefs


def other_fields(msgtype: str, definition: str, idl: bool = False) -> str:
    """Where a stored definition and the store's name other fields: the bag is of another version of the message.

    Its messages would be read as other values, or not at all. Names that differ in case alone are the same field: a
    converted ROS 1 bag keeps CameraInfo's D, K, R and P. Returns "" where they agree, or nothing is known.
    """
    known = typestore().fielddefs
    for name, (_, fields) in _parsed(msgtype, definition, idl).items():
        if name not in known:
            continue
        stored, ours = ([field for field, _ in of] for of in (fields, known[name][1]))
        if [field.lower() for field in stored] != ours:
            return f"{name} has the fields {', '.join(stored)} there, and is read as {', '.join(ours)}"
    return ""


@lru_cache(256)
def _parsed(msgtype: str, definition: str, idl: bool) -> Typesdict:
    """The types of a stored definition by name; none where it does not parse, which is logged once."""
    try:
        return get_types_from_idl(definition) if idl else get_types_from_msg(definition, msgtype)
    except TypesysError as error:
        _log.warning("The stored definition of %s does not parse: %s", msgtype, error)
        return {}


def _message_files(package: str) -> list[Path]:
    """The .msg files of a package: in the source tree beside this package, or under a share folder."""
    prefixes = [sys.prefix, *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    folders = [Path(__file__).resolve().parents[2] / PACKAGES[package] / "msg"]
    folders += [Path(prefix) / "share" / package / "msg" for prefix in prefixes if prefix]
    return next((files for folder in folders if (files := sorted(folder.glob("*.msg")))), [])
