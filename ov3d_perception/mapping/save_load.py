"""Maps to files and back, and two maps into one.

**Saving does not stop the map.** It copies 65536 voxels at a time under the map's lock, a few milliseconds; the
checksum and the disk come after. A save needs memory for one chunk, not for a second map. A scan that is integrated
meanwhile may be saved in part. Each voxel is whole, and its code valid: the codebook is written last and never drops an
entry.

**Loading builds a new map** and replaces nothing before the whole file is read and all checksums hold.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from ov3d_perception.errors import IdentityError, MapFileError
from ov3d_perception.language.bank import TextBank
from ov3d_perception.mapping import map_file
from ov3d_perception.mapping.basis import basis_hash
from ov3d_perception.mapping.linear_algebra import product
from ov3d_perception.mapping.map_file import MapFile
from ov3d_perception.mapping.map_words import MapWords
from ov3d_perception.mapping.quantisation import Projection, Quantiser, dequantise
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.mapping.voxel_table import MapState, VoxelRecords
from ov3d_perception.types import EncoderIdentity

_BOOK = "codebook."
_WORDS = "text_bank"
_SAME_BASIS = 1e-4  # largest difference between one basis computed on two machines
_LIVE_ROWS = 4096  # voxels merged into a map in use at a time: about 10 ms
_PAUSE = 0.002  # seconds between them, for the threads that wait for the lock


@dataclass(frozen=True)
class MapInfo:
    """What a file's header says. network: SHA-256 of W, its features' basis; saved: Unix time, ns; size: bytes."""

    path: Path
    identity: EncoderIdentity
    network: str
    logit_scale: float
    voxel_size: float
    frame_id: str
    max_voxels: int
    weight_cap: int
    eviction: str
    newest: int
    saved: int
    voxels: int
    size: int

    def __str__(self) -> str:
        saved, newest = (time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ns / 1e9)) for ns in (self.saved, self.newest))
        return "\n".join(
            [
                f"{self.path}: {self.voxels} voxels of {self.voxel_size:g} m in '{self.frame_id}', {self.size} bytes",
                f"encoder   {self.identity}, logit scale {self.logit_scale:g}",
                f"network   {self.network[:12]}",
                f"newest    {newest} UTC",
                f"saved     {saved} UTC",
                f"bound     {self.max_voxels} voxels, {self.eviction} first; weights up to {self.weight_cap}",
            ]
        )


def save_map(semantic_map: SemanticMap, path: Path | str, words: MapWords | None = None) -> MapInfo:
    """Write the map while it may be in use; ``path`` holds the old file or the new one at any time, never a part.

    words: written with it, unless they are of another encoder.
    Raises WriteError if the disk is full or the folder cannot be written to.
    """
    state = semantic_map.state()
    header: dict[str, Any] = {
        "encoder": {key: getattr(state.identity, key) for key in ("model", "pretrained", "dim", "sha256")},
        "network": basis_hash(state.head),
        "logit_scale": state.logit_scale,
        "voxel_size": state.voxel_size,
        "frame_id": state.frame_id,
        "max_voxels": state.max_voxels,
        "weight_cap": state.weight_cap,
        "eviction": state.eviction,
        "newest": state.newest,
        "saved": time.time_ns(),
    }
    book = (
        (_BOOK + name, array) for _ in (0,) for name, array in semantic_map.codebook().items()
    )  # taken when asked for
    arrays = {"head": state.head, "basis": semantic_map.basis}
    if words is not None and words.text.identity.compatible(state.identity):
        bank = words.bank()
        header |= {"words": bank.words, "classes": words.classes, "background": words.background}
        arrays[_WORDS] = bank.embeddings
    map_file.write(path, header, arrays, semantic_map.records(), book)
    return read_info(path)


def read_info(path: Path | str) -> MapInfo:
    """What a map file says of itself. Raises MapFileError; the voxels are not read."""
    with MapFile(path) as file:
        return _info(file)


def read_words(path: Path | str) -> MapWords | None:
    """The words that were saved with a map, None where there are none. Raises MapFileError."""
    with MapFile(path) as file:
        if "words" not in file.header:
            return None
        file.verify()
        info = _info(file)
        bank = TextBank(file.header["words"], file.array(_WORDS), info.identity, info.logit_scale)
        return MapWords.of(bank, file.header["classes"], file.header.get("background"))


def load_map(path: Path | str, max_voxels: int = 0, eviction: str = "") -> SemanticMap:
    """The map of a file, answering as the one that was saved did. Raises MapFileError.

    max_voxels, eviction: other than the saved map's; where the file holds more, the voxels seen last are kept.
    """
    with MapFile(path) as file:
        file.verify()
        state = _state(file)
        state = replace(state, max_voxels=max_voxels or state.max_voxels, eviction=eviction or state.eviction)
        names = [name for name, *_ in file.header["arrays"] if name.startswith(_BOOK)]
        book = {name.removeprefix(_BOOK): file.array(name) for name in names}
        turn = _turn(file, state)
        records = _bounded(file.records(), _kept([file], state.max_voxels))
        if turn is None:
            return SemanticMap.from_records(state, records, book)
        return SemanticMap.from_records(state, _turned(records, turn))


def merge_into(semantic_map: SemanticMap, path: Path | str) -> MapInfo:
    """Add a file's voxels to a map in use, a few at a time: weighted means, the newest stamps, the map's bound kept.

    Raises MapFileError or IdentityError before anything has changed.
    """
    with MapFile(path) as file:
        _require_same(_info(file), semantic_map.state(), "the map")
        file.verify()
        for records in _readable(file, semantic_map.state()):
            for start in range(0, len(records), _LIVE_ROWS):
                semantic_map.merge(records.of(np.arange(start, min(start + _LIVE_ROWS, len(records)))))
                time.sleep(_PAUSE)
        return _info(file)


def merge_maps(paths: Sequence[Path | str], out: Path | str, max_voxels: int = 0) -> MapInfo:
    """One map of several files of one frame, voxel size and network; their order matters no more than rounding does.

    Of a voxel in several the mean is weighted by the observations and the newest stamp is kept. max_voxels: bound, the
    largest of the maps' own if 0; beyond it, the voxels seen last are kept. Raises IdentityError, and MapFileError also
    for a map given twice.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(MapFile(path)) for path in paths]
        state, contents = _state(files[0]), dict[str, Path]()
        for file in files:
            _require_same(_info(file), state, str(files[0].path))
            file.verify()
            content = file.header["payload"]["sha256"]
            if content in contents:
                raise MapFileError(
                    f"{contents[content]} and {file.path} hold the same map: what it has seen once would count twice",
                    "Leave one out",
                )
            contents[content] = file.path
        most = {name: max(int(file.header[name]) for file in files) for name in ("max_voxels", "weight_cap", "newest")}
        bound = max_voxels or most["max_voxels"]
        state = replace(state, max_voxels=bound, weight_cap=most["weight_cap"], newest=most["newest"])
        every = itertools.chain.from_iterable(_readable(file, state) for file in files)
        words = next((words for words in map(read_words, paths) if words is not None), None)
        return save_map(SemanticMap.from_records(state, _bounded(every, _kept(files, bound))), out, words)


def _info(file: MapFile) -> MapInfo:
    header = file.header
    return MapInfo(
        path=file.path,
        identity=EncoderIdentity(**header["encoder"]),
        size=file.path.stat().st_size,
        **{name: header[name] for name in ("network", "logit_scale", "voxel_size", "frame_id", "max_voxels")},
        **{name: header[name] for name in ("weight_cap", "eviction", "newest", "saved", "voxels")},
    )


def _state(file: MapFile) -> MapState:
    info, head = _info(file), file.array("head")
    fixed = info.voxel_size, head, info.identity, info.logit_scale, info.frame_id
    return MapState(*fixed, info.max_voxels, info.weight_cap, info.eviction, info.newest, info.voxels)


def _require_same(info: MapInfo, state: MapState, other: str) -> None:
    """Raise unless the file's voxels may be averaged with those of ``other``."""
    if not info.identity.compatible(state.identity):
        raise IdentityError(
            f"{info.path} was made with {info.identity}, {other} with {state.identity}",
            "Only maps of one encoder can be merged",
        )
    if info.network != basis_hash(state.head):
        raise IdentityError(
            f"{info.path} was made by another network (basis {info.network[:12]}) than {other} "
            f"({basis_hash(state.head)[:12]})",
            "Only maps of one checkpoint can be merged",
        )
    if info.frame_id != state.frame_id or not np.isclose(info.voxel_size, state.voxel_size, rtol=1e-6):
        raise MapFileError(
            f"{info.path} has voxels of {info.voxel_size:g} m in '{info.frame_id}', {other} of {state.voxel_size:g} m "
            f"in '{state.frame_id}'",
            "Only maps of one frame and voxel size can be merged",
        )


def _turn(file: MapFile, state: MapState) -> Float32[np.ndarray, "c d"] | None:
    """The matrix that takes the file's coordinates to this machine's; None where they are the same.

    Both follow from W by a singular value decomposition, whose signs depend on the linear algebra library. A file of
    an earlier version may have fewer coordinates.
    """
    here, there = Projection(state.head).basis, file.array("basis")
    if here.shape == there.shape and np.allclose(here, there, atol=_SAME_BASIS):
        return None
    turn = there @ here.T
    if not np.allclose(turn @ turn.T, np.eye(len(turn)), atol=1e-2):
        raise MapFileError(f"{file.path} is kept in coordinates that do not belong to its network", "Save the map anew")
    return turn.astype(np.float32)


def _turned(records: Iterable[VoxelRecords], turn: Float32[np.ndarray, "c d"]) -> Iterator[VoxelRecords]:
    """The same voxels in other coordinates, rounded again."""
    quantise = Quantiser(turn.shape[1])
    for chunk in records:
        values = product(dequantise(chunk.features, chunk.factor), turn)
        features, factor = quantise(values, np.arange(len(chunk)), 0)
        yield replace(chunk, features=features, factor=factor)


def _readable(file: MapFile, state: MapState) -> Iterator[VoxelRecords]:
    """The file's voxels in this machine's coordinates."""
    turn = _turn(file, state)
    return file.records() if turn is None else _turned(file.records(), turn)


def _kept(files: Sequence[MapFile], bound: int) -> Int64[np.ndarray, " b"] | None:
    """Keys, ascending, of the voxels seen last, as many as the bound allows (of equal stamps the larger keys); None if
    that is all of them."""
    if sum(int(file.header["voxels"]) for file in files) <= bound:
        return None
    chunks = [(chunk.key, chunk.last_seen) for file in files for chunk in file.records()]
    key, seen = (np.concatenate(column) for column in zip(*chunks, strict=True))
    order = np.lexsort((seen, key))
    key, seen = key[order], seen[order]
    last = np.diff(key, append=-1) != 0  # of one key, the newest stamp
    key, seen = key[last], seen[last]
    return None if len(key) <= bound else np.sort(key[np.lexsort((key, seen))[len(key) - bound :]])


def _bounded(records: Iterable[VoxelRecords], keys: Int64[np.ndarray, " b"] | None) -> Iterator[VoxelRecords]:
    """The records with these keys; all if None."""
    for chunk in records:
        if keys is None:
            yield chunk
        else:
            yield chunk.of(keys[np.searchsorted(keys, chunk.key).clip(max=len(keys) - 1)] == chunk.key)
