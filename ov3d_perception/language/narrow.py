"""Scores of narrow features against text, without ever making the wide ones.

The network's head is linear, ``f = z W`` with z of about a hundred channels and f of 512 or more. For a unit text
embedding t

    cos(f, t) = (z . W t) / sqrt(z W W^T z)

so the text is projected once (``W t``) and each feature costs a product with a C x P and a C x C matrix. Exact, not an
approximation; a map can keep z alone.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64

_CHUNK = 4096  # rows at a time: scores of 200 prompts then stay in the cache
_ALIGNMENT = 16
_SMALL = 1e-12


class NarrowText:
    """A set of prompts, projected through one basis.

    basis: W, (C, D); embeddings: (P, D), normalised here.
    """

    def __init__(self, basis: Float32[np.ndarray, "c d"], embeddings: Float32[np.ndarray, "p d"]) -> None:
        w = torch.as_tensor(np.asarray(basis, dtype=np.float64))
        t = torch.as_tensor(np.asarray(embeddings, dtype=np.float64))
        t = t / t.norm(dim=1, keepdim=True).clamp_min(_SMALL)
        self._prompts = len(t)
        aligned = -len(t) % _ALIGNMENT  # empty columns: a product of 176 takes half the time of one of 171
        self._directions = torch.nn.functional.pad(w @ t.T, (0, aligned)).float().contiguous()
        self._gram = (w @ w.T).float().contiguous()

    def cosines(self, features: Float32[np.ndarray, "v c"]) -> Float32[np.ndarray, "v p"]:
        """Cosine of each feature, taken through the basis, with each prompt; 0 for a feature of length 0."""
        with torch.inference_mode():
            return self._cosines(_tensor(features)).numpy()

    def classify(
        self,
        features: Float32[np.ndarray, "v c"],
        prompt_class: Int64[np.ndarray, " p"],
        logit_scale: float,
    ) -> tuple[Int32[np.ndarray, " v"], Float32[np.ndarray, " v"]]:
        """Class of the best prompt, and the softmax over all prompts summed over that class's.

        prompt_class: class index of each prompt.
        """
        count = len(features)
        label, probability = np.empty(count, np.int32), np.empty(count, np.float32)
        membership = torch.as_tensor(np.asarray(prompt_class, dtype=np.int64))
        rows = _tensor(features)
        with torch.inference_mode():
            for start in range(0, count, _CHUNK):
                chosen, confidence = self._classify(rows[start : start + _CHUNK], membership, logit_scale)
                label[start : start + _CHUNK] = chosen.numpy()
                probability[start : start + _CHUNK] = confidence.numpy()
        return label, probability

    def _classify(
        self, features: torch.Tensor, membership: torch.Tensor, logit_scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        likelihood = torch.softmax(self._cosines(features).mul_(logit_scale), dim=1)
        highest, prompt = likelihood.max(dim=1)
        best, classes = membership[prompt], int(membership.max()) + 1
        if classes == len(membership):
            return best, highest
        one_hot = torch.nn.functional.one_hot(membership, classes).to(likelihood.dtype)
        return best, (likelihood @ one_hot).gather(1, best[:, None]).squeeze(1).clamp_(max=1.0)

    def _cosines(self, features: torch.Tensor) -> torch.Tensor:
        length = ((features @ self._gram) * features).sum(dim=1, keepdim=True).clamp_min_(_SMALL).sqrt_()
        return (features @ self._directions)[:, : self._prompts].div_(length).clamp_(-1.0, 1.0)


def _tensor(features: Float32[np.ndarray, "v c"]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
