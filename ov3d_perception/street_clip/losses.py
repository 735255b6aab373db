"""The contrastive losses of the small street CLIP, and the pool of captions that its images are held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class CaptionPool:
    """Embedded captions with their mentions, and after them embedded sentences about nothing in the street.

    A contrastive loss learns how much likelier a caption is beside an image than anywhere. If captions were drawn as
    often as their things are seen, that would be the posterior without its prior, and every grey pixel a rare grey
    thing. So each class that captions chiefly speak of is drawn equally often: what is left is the posterior.
    """

    embeddings: Float[Tensor, "p d"]
    mentions: Float32[np.ndarray, "m c"]

    def draw(self, rng: np.random.Generator, captions: int, absent: int) -> tuple[Tensor, np.ndarray]:
        """Embeddings of some captions and, after them, of some absent sentences; mentions of the captions."""
        known = len(self.mentions)
        chief = self.mentions.argmax(1)
        weight = 1.0 / np.bincount(chief)[chief]
        chosen = rng.choice(known, captions, p=weight / weight.sum())
        others = known + rng.choice(len(self.embeddings) - known, absent, replace=False)
        return self.embeddings[torch.from_numpy(np.concatenate([chosen, others]))], self.mentions[chosen]


def clip_loss(
    image: Float[Tensor, "n d"], text: Float[Tensor, "t d"], fit: np.ndarray, scale: Tensor
) -> Float[Tensor, ""]:
    """Symmetric cross entropy with targets in proportion to ``fit`` (n, m), m <= t; texts from m on fit nothing.

    Rows and columns that nothing fits carry no loss of their own, but count in the others' denominators.
    """
    logits = scale * image @ text.T
    target = torch.from_numpy(fit).to(logits)
    padded = functional.pad(target, (0, len(text) - target.shape[1]))
    to_text = _soft_cross_entropy(logits, padded)
    to_image = _soft_cross_entropy(logits[:, : target.shape[1]].T, target.T)
    return (to_text + to_image) / 2


def caption_loss(text: Float[Tensor, "t d"], fit: np.ndarray, scale: Tensor) -> Float[Tensor, ""]:
    """Cross entropy of each of the first m texts with all others, with targets in proportion to ``fit`` (m, m)."""
    count = len(fit)
    itself = torch.eye(count, len(text), dtype=torch.bool)
    target = functional.pad(torch.from_numpy(fit).to(text), (0, len(text) - count)).masked_fill(itself, 0)
    return _soft_cross_entropy((scale * text[:count] @ text.T).masked_fill(itself, -1e4), target)


def _soft_cross_entropy(logits: Float[Tensor, "a b"], target: Float[Tensor, "a b"]) -> Float[Tensor, ""]:
    """Cross entropy less the target's own entropy, so that a perfect match costs 0."""
    total = target.sum(1, keepdim=True)
    share = target / total.clamp(min=1e-6)
    entropy = -(share * share.clamp(min=1e-9).log()).sum(1)
    loss = -(share * logits.log_softmax(1)).sum(1) - entropy
    valid = total[:, 0] > 0
    return loss[valid].mean() if valid.any() else logits.sum() * 0
