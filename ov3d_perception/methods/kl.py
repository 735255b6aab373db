"""Distillation of logits: the Kullback-Leibler divergence between the teacher's and the student's words.

CLIP2Scene's Table 1 compares with it under the name "distillation". This project also offers it as an addition to
OpenScene's equation (1), which moves slowly where the features of different things are close to each other, as CLIP's
are; the divergence weighs the differences that the words ask for. No annotation enters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ov3d_perception.methods.openscene import weighted_mean


@dataclass(frozen=True)
class KlStep:
    """The inputs of one step's loss.

    student: the head's output for each point or voxel; any length. teacher: its pixels' feature; unit norm.
    text: embeddings of the words; unit norm. logit_scale: inverse temperature of the softmax over the words.
    weight: of each row in the mean, non-negative; None weighs all the same.
    """

    student: Float[Tensor, "m d"]
    teacher: Float[Tensor, "m d"]
    text: Float[Tensor, "p d"]
    logit_scale: float
    weight: Float[Tensor, " m"] | None = None


def losses(step: KlStep) -> dict[str, Float[Tensor, ""]]:
    """The losses of one step, by name."""
    return {"kl": agreement_loss(step.student, step.teacher, step.text, step.logit_scale, step.weight)}


def agreement_loss(
    student: Float[Tensor, "m d"],
    teacher: Float[Tensor, "m d"],
    text: Float[Tensor, "p d"],
    logit_scale: float,
    weight: Float[Tensor, " m"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over the rows of KL(q || p), with the softmax over the words ``text`` (unit norm)

    q = softmax(logit_scale * D(teacher, text)) and p = softmax(logit_scale * cos(student, text)).

    ``weight`` (non-negative) makes it a weighted mean. Without a row the loss is zero and still has a gradient.
    """
    words = text.float().T
    student_words = logit_scale * F.normalize(student.float(), dim=1) @ words
    return divergence(student_words, logit_scale * teacher.float() @ words, weight)


def divergence(
    student: Float[Tensor, "m p"], teacher: Float[Tensor, "m p"], weight: Float[Tensor, " m"] | None = None
) -> Float[Tensor, ""]:
    """Mean over the rows of KL(q || p) with q = softmax(teacher) and p = softmax(student), of logits."""
    log_q, log_p = (F.log_softmax(logits, dim=1) for logits in (teacher, student))
    return weighted_mean((log_q.exp() * (log_q - log_p)).sum(1), weight)
