"""How much training fits into the time that a person gives, by what a step took on this machine just now."""

from __future__ import annotations

from dataclasses import dataclass

from ov3d_perception.errors import ResourceError

SHARE = 0.9  # of the time left is planned; the rest is for what no measurement foresees
MOST_EPOCHS = 12  # on a few hundred frames of one place, more did not help
LEAST_EPOCHS = 2


@dataclass(frozen=True)
class Costs:
    """Seconds, measured: of one image in the teacher, one training step, one frame in the gate."""

    image: float
    step: float
    frame: float


@dataclass(frozen=True)
class Budget:
    """What was planned. seconds: teacher, training and gate together."""

    epochs: int
    teacher: float
    training: float
    gate: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.teacher + self.training + self.gate


def plan(costs: Costs, images: int, frames: int, exam: int, left: float) -> Budget:
    """The largest number of epochs that fits into ``left`` seconds.

    images: that the teacher must see. frames: of one epoch. exam: frames in the gate.
    Raises ResourceError where not even :data:`LEAST_EPOCHS` fit.
    """
    teacher, gate, epoch = images * costs.image, exam * costs.frame, frames * costs.step
    epochs = int((SHARE * left - teacher - gate) / max(epoch, 1e-9))
    if epochs < LEAST_EPOCHS:
        need = (teacher + gate + LEAST_EPOCHS * epoch) / SHARE / 3600
        raise ResourceError(
            f"The time does not suffice: {left / 3600:.2f} h are left, and the least that teaches anything takes "
            f"{need:.2f} h on this machine (an image {costs.image:.2f} s, a step {costs.step:.2f} s)",
            "Give more hours, or fewer frames (--frames)",
        )
    epochs = min(epochs, MOST_EPOCHS)
    return Budget(epochs, teacher, epochs * epoch, gate)
