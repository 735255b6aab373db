"""Former place of `ros.tools.bag_recorder`, which scripts of others still name."""

from ov3d_perception.ros.tools.bag_recorder import record as record
from ov3d_perception.ros.tools.bag_recorder import record_bag as record_bag
