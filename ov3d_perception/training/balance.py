"""Weights that let rare classes count, without annotation."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, distributed


class Balance:
    """Weights that are inverse to how often the words that teach say a class, to a power; no annotation is used.

    Shares are learnt from the words given so far (running sums), in all processes together.

    Args:
        prompt_class: (P,) class of each prompt, a word.
        power: 0 gives equal weights, 1 gives every class the same total.
    """

    def __init__(self, prompt_class: Int[np.ndarray, " p"], power: float) -> None:
        self.prompt_class = torch.from_numpy(np.asarray(prompt_class, np.int64))
        self.power = power
        self.total = torch.ones(int(self.prompt_class.max()) + 1, dtype=torch.float64)

    def weights(self, word: Int64[Tensor, " m"]) -> Float[Tensor, " m"]:
        """Weights of mean about one for a batch's words, which are counted first."""
        classes = self.prompt_class.to(word.device)[word]
        count = torch.bincount(classes, minlength=len(self.total))
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(count)
        self.total += count.cpu()
        weight = (self.total.sum() / (len(self.total) * self.total)).pow(self.power).to(word.device)[classes]
        return (weight / weight.mean()).float()
