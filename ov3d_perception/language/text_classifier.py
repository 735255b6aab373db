"""Classification of point features by text, without computing their embeddings.

The head is linear: a point feature z of about a hundred channels has the embedding ``f = z W`` of 512 or more. For a
unit text embedding t

    cos(f, t) = (z . W t) / sqrt(z W W^T z)

so ``W t`` is computed once, and each feature costs a product with a C x P and a C x C matrix. The result is exact.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int32, Int64
from torch import Tensor
from torch.nn import functional

_CHUNK = 4096  # rows at a time: on a CPU, scores of 200 prompts then stay in the cache
_ALIGNMENT = 16
_SMALL = 1e-12


class TextClassifier:
    """Prompts, projected through the head's weights; on the device of the features to come.

    basis: W, (C, D); embeddings: (P, D), normalised here.
    """

    def __init__(
        self,
        basis: Float32[np.ndarray, "c d"],
        embeddings: Float[np.ndarray, "p d"],
        device: torch.device | str = "cpu",
    ) -> None:
        w = torch.as_tensor(np.asarray(basis, dtype=np.float64))
        t = functional.normalize(torch.as_tensor(np.asarray(embeddings, dtype=np.float64)), dim=1, eps=_SMALL)
        self._prompts = len(t)
        padding = -len(t) % _ALIGNMENT  # empty columns: a product of 176 takes half the time of one of 171
        self._directions = functional.pad(w @ t.T, (0, padding)).float().contiguous().to(device)
        self._gram = (w @ w.T).float().contiguous().to(device)

    def cosines(self, features: Float32[Tensor, "v c"]) -> Float32[Tensor, "v p"]:
        """Cosine of each feature's embedding with each prompt; 0 for a feature of length 0."""
        length = ((features @ self._gram) * features).sum(dim=1, keepdim=True).clamp_min_(_SMALL).sqrt_()
        return (features @ self._directions)[:, : self._prompts].div_(length).clamp_(-1.0, 1.0)

    @torch.inference_mode()
    def classify(
        self, features: Float32[Tensor, "v c"], prompt_class: Int[np.ndarray, " p"], logit_scale: float
    ) -> tuple[Int32[Tensor, " v"], Float32[Tensor, " v"]]:
        """Class of the best prompt, and the softmax over all prompts summed over that class's.

        prompt_class: class index of each prompt.
        """
        label = torch.empty(len(features), dtype=torch.int32, device=features.device)
        probability = torch.empty(len(features), device=features.device)
        membership = torch.as_tensor(np.asarray(prompt_class, dtype=np.int64)).to(features.device)
        for start in range(0, len(features), _CHUNK):
            part = slice(start, start + _CHUNK)
            label[part], probability[part] = self._classify(features[part], membership, logit_scale)
        return label, probability

    def _classify(
        self, features: Float32[Tensor, "v c"], membership: Int64[Tensor, " p"], logit_scale: float
    ) -> tuple[Int64[Tensor, " v"], Float32[Tensor, " v"]]:
        likelihood = torch.softmax(self.cosines(features).mul_(logit_scale), dim=1)
        highest, prompt = likelihood.max(dim=1)
        best, classes = membership[prompt], int(membership.max()) + 1
        if classes == len(membership):
            return best, highest
        one_hot = functional.one_hot(membership, classes).to(likelihood.dtype)
        return best, (likelihood @ one_hot).gather(1, best[:, None]).squeeze(1).clamp_(max=1.0)
