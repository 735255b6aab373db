"""The parameters of ``map_node``; ``config/map_node.yaml`` lists them with these defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ov3d_perception.ledger import resolve
from ov3d_perception.mapping.query import TextQuery
from ov3d_perception.mapping.semantic_map import EVICTIONS
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.ros.parameters import parameter


@dataclass(frozen=True)
class MapParameters:
    """What the map keeps is fixed at start; how it is asked and shown can be changed at any time."""

    map_frame: str = parameter("map", "Frame in which the map is kept", read_only=True)
    voxel_size: float = parameter(
        0.2, "Edge of a map voxel [m]; 0: that of the network's voxels", minimum=0.0, maximum=5.0, read_only=True
    )
    max_voxels: int = parameter(
        1_000_000,
        "Bound on the map (less than 100 bytes a voxel); when full, a hundredth of it goes, see `eviction`",
        minimum=1000,
        maximum=50_000_000,
        read_only=True,
    )
    eviction: str = parameter(
        "oldest",
        "What goes when the map is full: `oldest` (seen longest ago) or `farthest` (from the sensor)",
        choices=EVICTIONS,
        read_only=True,
    )
    max_age: float = parameter(
        0.0, "Voxels not seen for this long are forgotten [s]; 0: never", minimum=0.0, maximum=1e7
    )
    clear_free_space: bool = parameter(
        True, "Forget what later scans look through, within 40 m: moving objects do not leave trails"
    )
    checkpoint: str = parameter(
        "", "The network of lidar_node, for the words stored in it; empty: the one shipped", read_only=True
    )
    text: str = parameter(
        "",
        "Where words come from: a text bank (.npz), or an open_clip model with its text tower as `model,pretrained`; "
        "empty: the words stored in the checkpoint",
        read_only=True,
    )
    vocabulary: str = parameter(
        "",
        "Label set (a name of language/classes, or a YAML file; empty: the checkpoint's): the classes of the map "
        "cloud, and what the words of a query compete with when it brings no negatives",
        read_only=True,
    )
    threshold: float = parameter(
        TextQuery.threshold,
        "Probability of a voxel that is sure, for queries that name none",
        minimum=0.01,
        maximum=1.0,
    )
    min_sure: int = parameter(
        TextQuery.min_sure, "Groups with fewer sure voxels are no match", minimum=1, maximum=1_000_000
    )
    extent: float = parameter(
        TextQuery.extent,
        "Share of the threshold from which on voxels belong to a match with sure ones",
        minimum=0.1,
        maximum=1.0,
    )
    min_voxels: int = parameter(
        TextQuery.min_voxels, "Groups of fewer voxels are no match", minimum=1, maximum=1_000_000
    )
    min_observations: int = parameter(
        TextQuery.min_observations,
        "Voxels seen in fewer scans do not count: what moves leaves such traces",
        minimum=1,
        maximum=50,
    )
    gap: float = parameter(
        TextQuery.gap,
        "Voxels nearer to each other than this belong to one match, horizontally [m]",
        minimum=0.01,
        maximum=10.0,
    )
    vertical_gap: float = parameter(
        TextQuery.vertical_gap,
        "The same vertically; a LiDAR's beams lie farther apart there [m]",
        minimum=0.01,
        maximum=10.0,
    )
    synonym_cosine: float = parameter(
        TextQuery.synonym_cosine,
        "Words nearer than this to the one asked for do not compete with it, nor do those of its class",
        minimum=0.5,
        maximum=1.0,
    )
    standing_query: str = parameter(
        "", "Words, with commas between, that are asked again whenever the map has grown; empty: none"
    )
    publish_period: float = parameter(
        2.0,
        "Time between two map clouds [s]; none is made without a subscriber",
        minimum=0.1,
        maximum=3600.0,
        read_only=True,
    )
    tf_timeout: float = parameter(0.2, "Longest wait for a transform that is on its way [s]", minimum=0.0, maximum=2.0)
    tf_cache: float = parameter(10.0, "History of transforms kept [s]", minimum=1.0, maximum=300.0, read_only=True)
    queue: int = parameter(
        5,
        "Feature clouds that may wait; when they are more, the oldest is dropped",
        minimum=1,
        maximum=100,
        read_only=True,
    )
    stale_after: float = parameter(
        5.0, "Diagnostics turn STALE when no feature cloud has come for this long [s]", minimum=0.1, maximum=3600.0
    )
    diagnostics_period: float = parameter(
        1.0, "Time between two messages on /diagnostics [s]", minimum=0.05, maximum=60.0, read_only=True
    )

    @property
    def checkpoint_path(self) -> Path:
        """The checkpoint asked for, that of the site asked for, or the one shipped. Raises LedgerError."""
        return resolve(self.checkpoint, shipped_checkpoint())

    def query(self) -> TextQuery:
        """A query without words, with the values that requests do not name."""
        return TextQuery(
            words=(),
            threshold=self.threshold,
            extent=self.extent,
            min_sure=self.min_sure,
            min_voxels=self.min_voxels,
            min_observations=self.min_observations,
            gap=self.gap,
            vertical_gap=self.vertical_gap,
            synonym_cosine=self.synonym_cosine,
        )
