"""The parameters of ``lidar_node``; ``config/lidar_node.yaml`` lists them with these defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ov3d_perception.geometry.scan_time import UNITS
from ov3d_perception.geometry.upright import MODES
from ov3d_perception.ledger import resolve
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.ros.parameters import parameter
from ov3d_perception.types import BACKENDS, Preparation


@dataclass(frozen=True)
class LidarParameters:
    """Values are taken over when the node is configured; the vocabulary can be changed at any time by service."""

    autostart: bool = parameter(True, "Configure and activate at start, without a lifecycle manager", read_only=True)
    checkpoint: str = parameter(
        "",
        "Network, a .safetensors file of `ov3d train` or the folder of a site (`ov3d learn`); empty: the one shipped",
    )
    follow_site: bool = parameter(
        False, "Where checkpoint is a site's folder: load each network that its ledger puts in force, while working"
    )
    shadow_every: int = parameter(
        2,
        "A network that is compared first (shadow) labels each n-th scan, beside the present one",
        minimum=1,
        maximum=100,
    )
    min_agreement: float = parameter(
        0.5,
        "A compared network that labels a smaller share of the points as the present one does is refused",
        minimum=0.0,
        maximum=1.0,
    )
    trial_scans: int = parameter(
        100,
        "Scans after a swap in which a network that fails is taken back, and the former one labels the scan",
        minimum=0,
        maximum=1_000_000,
    )
    device: str = parameter("auto", "Where the network runs: auto (a GPU if there is one), cpu, cuda, cuda:1, ...")
    precision: str = parameter(
        "auto",
        "Arithmetic of the network; auto: the fastest on this processor, int8 only for a checkpoint that is calibrated",
        choices=("auto", "int8", "bf16", "fp32"),
    )
    backend: str = parameter(
        "auto",
        "What convolves: auto (spconv on a GPU where it is installed, else torch), torch, minkowski, spconv",
        choices=("auto", *BACKENDS),
    )
    text: str = parameter(
        "",
        "Where words come from: a text bank (.npz), or an open_clip model with its text tower as `model,pretrained`; "
        "empty: the words stored in the checkpoint",
    )
    vocabulary: tuple[str, ...] = parameter((), "Words to label with; empty: the classes stored in the checkpoint")
    min_probability: float = parameter(
        0.0, "Points whose best class is less probable stay unlabelled (65535)", minimum=0.0, maximum=1.0
    )
    intensity_scale: float = parameter(
        0.0,
        "Factor that brings the sensor's intensity to [0, 1]; 0: as the checkpoint says, which may be to estimate it "
        "from the first scans",
        minimum=0.0,
        maximum=1000.0,
    )
    sweeps: int = parameter(
        0,
        "Scans that are accumulated, motion-compensated by TF; 0: as many as the network was trained with",
        minimum=0,
        maximum=20,
    )
    max_sweep_age: float = parameter(
        0.0, "Scans older than this are not accumulated [s]; 0: as the checkpoint says", minimum=0.0, maximum=60.0
    )
    deskew: str = parameter(
        "auto",
        "Move each point to where it was at the scan's stamp, by its time field and TF; auto: if the network was "
        "trained on such clouds",
        choices=("auto", "always", "never"),
    )
    time_unit: str = parameter(
        "auto", "Unit of the points' time field; auto: by its spread within a scan", choices=("auto", *UNITS)
    )
    time_offset: float = parameter(
        0.0, "Added to the points' times [s], for a clock that is known to differ", minimum=-1e6, maximum=1e6
    )
    upright: str = parameter(
        "checkpoint",
        "Which way is up for the network: base (TF to base_frame), imu (gravity of ~/input/imu), auto (the first there "
        "is), off (the cloud as it came), checkpoint (as in training)",
        choices=("checkpoint", *MODES),
    )
    base_frame: str = parameter("base_link", "Frame of the robot with z up")
    fixed_frame: str = parameter("odom", "Frame that does not move with the robot; continuous, so odom, not map")
    tf_timeout: float = parameter(0.1, "Longest wait for a transform that is on its way [s]", minimum=0.0, maximum=2.0)
    tf_cache: float = parameter(10.0, "History of transforms kept [s]", minimum=1.0, maximum=300.0, read_only=True)
    queue: int = parameter(
        1, "Scans that may wait for the network; when they are more, the oldest is dropped", minimum=1, maximum=100
    )
    feature_encoding: str = parameter(
        "int8", "How ~/output/features holds its values: 1 or 2 bytes each", choices=("int8", "float16")
    )
    stale_after: float = parameter(
        2.0, "Diagnostics turn STALE when no scan has come for this long [s]", minimum=0.1, maximum=3600.0
    )
    diagnostics_period: float = parameter(
        1.0, "Time between two messages on /diagnostics [s]", minimum=0.05, maximum=60.0, read_only=True
    )

    @property
    def checkpoint_path(self) -> Path:
        """The checkpoint asked for, that of the site asked for, or the one shipped. Raises LedgerError."""
        return resolve(self.checkpoint, shipped_checkpoint())

    def preparation(self, of_checkpoint: Preparation) -> Preparation:
        """How scans are prepared: as the checkpoint says, except for what these parameters say."""
        return Preparation(
            deskew=of_checkpoint.deskew if self.deskew == "auto" else self.deskew == "always",
            sweeps=self.sweeps or of_checkpoint.sweeps,
            max_sweep_age=self.max_sweep_age or of_checkpoint.max_sweep_age,
            intensity_scale=self.intensity_scale or of_checkpoint.intensity_scale,
            upright=of_checkpoint.upright if self.upright == "checkpoint" else self.upright,
        )
