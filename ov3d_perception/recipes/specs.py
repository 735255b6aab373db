"""The sections of a recipe: everything that decides what a training run computes (``config/train/*.yaml``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ov3d_perception.recipes.method_specs import MethodSpec, OpenSceneSpec


@dataclass(frozen=True)
class SourceSpec:
    """A source of frames: ``dataset`` is a name of the datasets registry ("bag" included), ``root`` its folder or file.

    options: keyword arguments of that data set (``sequences``, ``seeds``, ...). every: takes every n-th frame.
    """

    dataset: str
    root: str
    options: dict[str, Any] = field(default_factory=dict)
    every: int = 1


@dataclass(frozen=True)
class PassSpec:
    """One look at an image: its size and how the encoder attends; docs/teachers.md has what they are worth.

    height: in pixels that an image is resized to, its width in proportion; None keeps its own size.
    window, stride: in pixels, of the square windows that the encoder sees one at a time; 0 shows it the whole image.
    way: of attending in the last block, a name of ``language.dense.WAYS``.
    """

    height: int | None = None
    window: int = 0
    stride: int = 0
    way: Literal["maskclip", "naclip", "scclip"] = "maskclip"


@dataclass(frozen=True)
class TeacherSpec:
    """The image encoder and how its dense features are made.

    model, pretrained: as for open_clip; pretrained may be a file, model a folder of ours.
    size: (height, width) in pixels that an image is resized to before encoding; None keeps its own size.
    scales: factors on ``size`` whose features are averaged. flip: average with the mirrored image's features too.
    precision: of the encoder, as for ``load_encoder``.
    cache_gb: stated budget of the fp16 dense features on disk; a run that needs more stops before it starts.
    online: encode images in each step, which their augmentations need, instead of once (CLIP2Scene and its like).
    key_smoothing: a sharpness (20 is good for CLIP ViT-B/16, 0 is off), after MaskCLIP: a patch takes the mean of all
    patches' features, weighted by the softmax of the sharpness times the cosine of their keys.
    passes: looks at the image whose features are averaged, on the finest of their grids; they say what ``size``,
    ``scales`` and ``key_smoothing`` say otherwise.
    """

    model: str
    pretrained: str | None = None
    size: tuple[int, int] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    precision: str = "auto"
    cache_gb: float = 20.0
    online: bool = False
    key_smoothing: float = 0.0
    passes: tuple[PassSpec, ...] = ()


@dataclass(frozen=True)
class PairSpec:
    """Which pixels teach which points.

    sweeps: how many sweeps of a frame are merged into the input cloud. min_depth, max_depth: metres along the optical
    axis. border: pixels. occlusion: the depth-buffer test (the papers have none), in which a point covers
    ``occlusion_radius`` pixels (horizontal, vertical) around it. view_window: images of that many
    frames before and after, of the same sequence, see the frame's points too (through the ego poses).
    voxel: metres; what is said of a point is the mean over all points that the scans of the window have in its voxel;
    0: of the point alone. coarse_voxel: metres; where a frame's scan has no point in such a voxel, its images say
    nothing of what another scan has there, since it has moved; confidence is measured in them.
    basis: features keep so many of the teacher's principal directions, at a byte each; 0: all.
    targets: at most so many voxels (openscene) or pairs (the others) of a frame enter the loss.
    """

    sweeps: int = 1
    min_depth: float = 1.0
    max_depth: float = 80.0
    border: int = 0
    occlusion: bool = True
    occlusion_radius: tuple[float, float] = (6.0, 6.0)
    view_window: int = 0
    voxel: float = 0.0
    coarse_voxel: float = 0.4
    basis: int = 128
    targets: int = 20000


@dataclass(frozen=True)
class NetworkSpec:
    """The student: ``arch`` at ``width``, point ``inputs`` and ``voxel_size`` in metres.

    init: a checkpoint of the same network to start from, of another site or another encoder; then its head is not used.
    keep: share of ``init``'s weights in what the training leaves, the rest is what was learned: between the two a
    network knows most of the new place, and of others as much as before (WiSE-FT, Wortsman et al., CVPR 2022).
    """

    arch: str = "MinkUNet14A"
    width: float = 0.5
    inputs: tuple[str, ...] = ("ones", "intensity")
    voxel_size: float = 0.1
    init: str | None = None
    keep: float = 0.0


@dataclass(frozen=True)
class AugmentSpec:
    """Augmentations of the cloud; pairs stay true because targets belong to points, not to places.

    rotate: about z by any angle. flip: x and y, each with probability 1/2. scale: factor in [1 - s, 1 + s].
    jitter: sigma of a per-point shift in metres. translate: whole-cloud shift in metres, each axis in [0, t).
    dropout: greatest fraction of points removed. intensity: gain in [1 - i, 1 + i]. response: the intensity is
    raised to a power between 1 / (1 + r) and 1 + r, for LiDARs differ in how an echo's strength is reported.
    blind: probability that a cloud has no intensities, as of a sensor that reports none.
    wedge: fraction of the circle around the sensor that is kept, towards a random supervised point; a third makes a
    step three times as cheap.
    context: metres; points in no column of that edge with a supervised point, or beside one, are dropped (None: off).
    mix: probability that a second cloud, augmented by itself, is laid over the first (Mix3D, Nekrasov et al. 2021).
    swap: probability that it takes the place of half of the circle instead (scene-level swap of PolarMix, Xiao et al.
    2022).
    image_flip, image_crop: of the images, with ``teacher.online``: mirrored with probability 1/2; cropped to a random
    part of at least this share of the area. A crop without ``online`` only leaves out what lies outside it.
    """

    rotate: bool = True
    flip: bool = True
    scale: float = 0.1
    jitter: float = 0.01
    translate: float = 0.2
    dropout: float = 0.2
    intensity: float = 0.1
    response: float = 0.0
    blind: float = 0.0
    wedge: float = 1.0
    context: float | None = None
    mix: float = 0.0
    swap: float = 0.0
    image_flip: bool = False
    image_crop: float = 1.0


@dataclass(frozen=True)
class OptimiserSpec:
    """AdamW ("adamw"), or SGD with momentum 0.9 and dampening 0.1 ("sgd", SLidR's and CLIP2Scene's).

    schedule: OneCycle ("onecycle"), polynomial decay of power 0.9 ("poly", OpenScene's), half a cosine ("cosine").
    batch: frames a step and process; accumulate: steps whose gradients are added up.
    precision: "fp32", "bf16" or, on a GPU, "fp16" (autocast).
    workers: processes that make batches; 0: a thread beside the step makes the next one.
    ema_decay: decay a step of the moving average of the weights, which is evaluated and kept instead of the last ones
    (0 = off; 0.99 looks back about 100 steps).
    frozen_norm: share of the steps, the last ones, in which batch normalisation uses statistics of the whole training
    set, as evaluation does, instead of the batch's own (0 = never, 1 = always; 0.5 is good where a batch is one cloud).
    """

    epochs: int = 100
    batch: int = 2
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    schedule: Literal["onecycle", "poly", "cosine"] = "onecycle"
    warmup: float = 0.1
    clip: float = 5.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    ema_decay: float = 0.0
    workers: int = 0
    algorithm: Literal["adamw", "sgd"] = "adamw"
    accumulate: int = 1
    frozen_norm: float = 0.0


@dataclass(frozen=True)
class VocabularySpec:
    """The words a checkpoint is born with and is validated by: a label set's prompts, embedded by ``text``.

    text: a bank (``.npz``) or a model with a text tower; key: which bank of a file that holds several.
    """

    labelset: str
    text: str
    key: str | None = None


@dataclass(frozen=True)
class FinetuneSpec:
    """Training on labels that starts from a pre-trained network or from random weights; cross-entropy.

    splits: labelled sources by name, such as "1%"; each is validated by the recipe's validation source.
    learning_rate: of the pre-trained part; head_rate: of the new head; algorithm, schedule: by default SGD and a
    cosine, as SLidR. balance: power of the inverse frequency of a class, as a weight of its points (0 = off). The rest
    is the recipe's own (batch, augmentations of the cloud, precision, ``optimiser.frozen_norm``).
    """

    splits: dict[str, SourceSpec] = field(default_factory=dict)
    epochs: int = 100
    learning_rate: float = 0.02
    head_rate: float = 2.0
    weight_decay: float = 1e-4
    algorithm: Literal["adamw", "sgd"] = "sgd"
    schedule: Literal["onecycle", "poly", "cosine"] = "cosine"
    balance: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """One run. validation may be None; validate_every counts epochs, each of ``repeat`` passes over the data.

    method: the section of the method that it names (:mod:`.methods`).
    phases: what each phase of the training changes, as ``section.field: value``; each begins with the weights that the
    one before ended with, and has its own method, schedule and epochs. Empty: one phase, the recipe as it stands.
    folds: of a cross-validation by ``ov3d ablate``: for each its name and what it changes, likewise.
    """

    name: str
    train: SourceSpec
    teacher: TeacherSpec
    validation: SourceSpec | None = None
    vocabulary: VocabularySpec | None = None
    pairs: PairSpec = field(default_factory=PairSpec)
    network: NetworkSpec = field(default_factory=NetworkSpec)
    augment: AugmentSpec = field(default_factory=AugmentSpec)
    optimiser: OptimiserSpec = field(default_factory=OptimiserSpec)
    method: MethodSpec = field(default_factory=OpenSceneSpec)
    finetune: FinetuneSpec = field(default_factory=FinetuneSpec)
    seed: int = 1
    repeat: int = 1
    validate_every: int = 10
    phases: tuple[dict[str, Any], ...] = ()
    folds: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint's metadata; :func:`~.load.from_dict` takes it back."""
        return asdict(self)
