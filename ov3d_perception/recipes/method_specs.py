"""The section ``method`` of a recipe: a typed spec for each method, and the names under which recipes find them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from ov3d_perception.errors import RecipeError


@dataclass(frozen=True)
class MethodSpec:
    """What a method's section has in common: its name.

    reads: options of other sections, ``section.field``, that this method uses and not every method does.
    """

    name: str = ""
    reads: ClassVar[frozenset[str]] = frozenset()

    @property
    def needs_words(self) -> bool:
        """Whether the recipe must have a vocabulary."""
        return True

    def cloud_sweeps(self, merged: int) -> int:
        """How many sweeps one cloud of the network has; ``merged`` is the recipe's ``pairs.sweeps``."""
        return merged


METHODS: dict[str, type[MethodSpec]] = {}
"""The spec of each method by name."""


def register_spec(spec: type[MethodSpec]) -> type[MethodSpec]:
    """Make a method's spec known to recipes; usable as a decorator.

    Raises RecipeError where it has no name, or another spec has it.
    """
    if not spec.name or METHODS.get(spec.name, spec) is not spec:
        raise RecipeError(f"The method's name {spec.name!r} is empty or taken", "Give the spec another default name")
    METHODS[spec.name] = spec
    return spec


def load_module(name: str) -> None:
    """Import a Python file (``.py``) or a module by its dotted name, for the methods that it registers.

    Raises RecipeError where it is not there; what the module itself raises is not caught.
    """
    path = Path(name)
    if path.suffix != ".py":
        if importlib.util.find_spec(name) is None:
            raise RecipeError(f"There is no module {name!r}", "Give the path of a .py file, or install the module")
        importlib.import_module(name)
        return
    if not path.is_file():
        raise RecipeError(f"There is no file {path}", "Give the path of the file that registers the method")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


@register_spec
@dataclass(frozen=True)
class OpenSceneSpec(MethodSpec):
    """OpenScene's distillation, equation (1) of GGSD.

    agreement: weight of the agreement over the vocabulary, which is added to it (0 = off; see
    :func:`~ov3d_perception.methods.kl.agreement_loss`).
    balance: power of the inverse frequency of the class of the word that teaches, as a weight of each voxel (0 = off).
    confidence: power of the teacher's confidence (:mod:`~ov3d_perception.lifting.consolidate`), likewise.
    held: the head has only directions that the targets have (``pairs.basis``). Words, which lie apart from images, have
    others, too, in which a network learns to tell the words of the training apart, and no others.
    """

    name: str = "openscene"
    agreement: float = 0.0
    balance: float = 0.0
    confidence: float = 0.0
    held: bool = False
    reads: ClassVar = frozenset(
        {
            "pairs.sweeps",
            "pairs.view_window",
            "pairs.voxel",
            "pairs.coarse_voxel",
            "pairs.basis",
            "pairs.targets",
            "augment.mix",
            "augment.swap",
        }
    )

    @property
    def needs_words(self) -> bool:
        """For the options only."""
        return self.agreement > 0 or self.balance > 0


@register_spec
@dataclass(frozen=True)
class GgsdSpec(OpenSceneSpec):
    """GGSD; its paper gives neither the superpoints' size nor the average's decay (``optimiser.ema_decay``).

    superpoint, self_distillation: weights of L_sp and L_sd beside L_p; 0 leaves one out. tau: of equation (6).
    voxel, seed: of the superpoints, in metres, as :class:`~ov3d_perception.geometry.superpoints.Vccs` takes them.
    near: metres beyond which superpoints grow with range; None: nowhere (RGB-D).
    align: pseudo-labels keep the shares that classes had when self-distillation began (beyond the paper;
    :mod:`ov3d_perception.training.alignment`).
    """

    name: str = "ggsd"
    superpoint: float = 1.0
    self_distillation: float = 1.0
    align: bool = False
    tau: float = 0.01
    voxel: float = 0.1
    seed: float = 0.5
    near: float | None = 5.0

    @property
    def needs_words(self) -> bool:
        """For self-distillation, and for the options."""
        return self.self_distillation > 0 or super().needs_words


@dataclass(frozen=True)
class SweepsSpec(MethodSpec):
    """What the methods share that learn from sweeps drawn anew in each epoch.

    sweeps: K, the key sweep and those drawn within ``seconds`` of it.
    merged: the network sees the K sweeps as one cloud, not one after the other.
    grid: edge of the grid cells in metres; grid_points: most pairs of a cell.
    """

    sweeps: int = 3
    seconds: float = 0.5
    merged: bool = False
    grid: float = 0.1
    grid_points: int = 8
    reads: ClassVar = frozenset({"pairs.targets", "teacher.online", "augment.image_flip", "augment.image_crop"})

    def cloud_sweeps(self, merged: int) -> int:
        """All K or one."""
        return self.sweeps if self.merged else 1


@dataclass(frozen=True)
class WordsSpec(SweepsSpec):
    """What the methods share that are taught by the pixels' words.

    prompts: another label set whose words teach ("" takes the vocabulary's).
    balance: power of the inverse frequency of a word's class, as a weight of each pair (0 = off; no annotation enters).
    denoise: MaskCLIP's prompt denoising: words whose probability is below this all over an image are not in it; 0: off.
    """

    prompts: str = ""
    balance: float = 0.0
    denoise: float = 0.0


@register_spec
@dataclass(frozen=True)
class Clip2SceneSpec(WordsSpec):
    """CLIP2Scene; the defaults are its paper's, else its release's.

    semantic, spatial: weights of equations (1) and (2). tau, attention: the temperatures tau and lambda.
    form: of equation (1): "equation" as printed (it balances by itself), "release" for the release's cross-entropy over
    the nearest words, "soft" for the divergence from the pixels' own softmax over the words.
    switch_after, switch: epochs before switchable self-training, and its probability after them.
    """

    name: str = "clip2scene"
    semantic: float = 1.0
    spatial: float = 1.0
    tau: float = 0.5
    attention: float = 1.0
    form: Literal["equation", "release", "soft"] = "equation"
    switch_after: int = 10
    switch: float = 0.5


@register_spec
@dataclass(frozen=True)
class KlSpec(WordsSpec):
    """The distillation of logits that CLIP2Scene's Table 1 compares with."""

    name: str = "kl"


@register_spec
@dataclass(frozen=True)
class PpktSpec(SweepsSpec):
    """PPKT. temperature: of InfoNCE; samples: pairs a frame."""

    name: str = "ppkt"
    temperature: float = 0.07
    samples: int = 4096


@register_spec
@dataclass(frozen=True)
class SlidrSpec(SweepsSpec):
    """SLidR. temperature: of InfoNCE; segments, compactness, sigma: SLIC's superpixels of an image."""

    name: str = "slidr"
    temperature: float = 0.07
    segments: int = 150
    compactness: float = 6.0
    sigma: float = 3.0


@register_spec
@dataclass(frozen=True)
class LabelsSpec(MethodSpec):
    """Cross-entropy on labels: what ``ov3d finetune`` makes of a recipe."""

    name: str = "labels"
    reads: ClassVar = frozenset({"pairs.sweeps"})
