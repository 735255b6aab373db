"""The parameters of ``map_node``'s outputs for navigation; ``config/map_node.yaml`` lists them with these defaults."""

from __future__ import annotations

from dataclasses import dataclass

from ov3d_perception.mapping.navigation.approach import Stance
from ov3d_perception.mapping.navigation.costmap import Body
from ov3d_perception.ros.parameters import parameter


@dataclass(frozen=True)
class NavigationParameters:
    """What places cost, what the robot drives over and under, and how it stands in front of things."""

    costs: tuple[str, ...] = parameter(
        (),
        "What driving over something costs in Nav2's keepout filter, as `word: cost` from 0 to 100 (100: never); the "
        "names of the vocabulary's classes stand for their words. Without any there is no mask",
    )
    mask_resolution: float = parameter(
        0.2,
        "Edge of a cell of the ground grid that costs are drawn on [m]; no less than a voxel",
        minimum=0.0,
        maximum=5.0,
    )
    mask_cell: float = parameter(
        0.05,
        "Edge of a cell of the mask as it is published [m]: the costmap's resolution, since KeepoutFilter counts in "
        "the mask's cells; 0: mask_resolution",
        minimum=0.0,
        maximum=5.0,
        read_only=True,
    )
    mask_size: float = parameter(
        0.0,
        "Least width and height of the mask [m]; what the map has not seen is unknown. For a costmap that stands "
        "still: its size",
        minimum=0.0,
        maximum=1000.0,
        read_only=True,
    )
    mask_period: float = parameter(
        3.0, "Time between two looks at what has changed [s]", minimum=0.1, maximum=3600.0, read_only=True
    )
    step: float = parameter(
        0.3, "What rises no higher above the ground is driven over [m]; no less than a voxel", minimum=0.0, maximum=5.0
    )
    robot_height: float = parameter(2.0, "What hangs higher is driven under [m]", minimum=0.1, maximum=20.0)
    ground_gap: float = parameter(
        0.6, "Unknown ground between known ground is taken for ground up to this width [m]", minimum=0.0, maximum=5.0
    )
    stand_off: float = parameter(
        1.5,
        "Least distance of an approach pose from the thing, for calls that name none [m]",
        minimum=0.1,
        maximum=50.0,
    )
    stand_off_slack: float = parameter(1.0, "How much more it may be [m]", minimum=0.05, maximum=50.0)
    robot_radius: float = parameter(
        0.4, "Free ground around an approach pose, for calls that name none [m]", minimum=0.01, maximum=20.0
    )
    robot_frame: str = parameter(
        "base_link", "Frame of the robot: with it in TF, approach poses are near the robot and reachable"
    )

    @property
    def body(self) -> Body:
        """What the ground grid is made for."""
        return Body(self.step, self.robot_height, self.ground_gap)

    def stance(self, stand_off: float, radius: float) -> Stance:
        """As asked for; zeros stand for the parameters."""
        return Stance(stand_off or self.stand_off, self.stand_off_slack, radius or self.robot_radius)
