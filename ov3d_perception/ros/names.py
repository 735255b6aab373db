"""Names of our nodes, topics and services. They are relative, so that each robot's namespace goes before them."""

from __future__ import annotations

import os

LIDAR_NODE, MAP_NODE, CLOUD_FILTER_NODE = "lidar_node", "map_node", "cloud_filter_node"
LEARN_NODE = "learn_node"

LABELLED_POINTS = f"{LIDAR_NODE}/output/points"
LABEL_INFO = f"{LIDAR_NODE}/output/label_info"
FEATURES = f"{LIDAR_NODE}/output/features"
BASIS = f"{LIDAR_NODE}/output/basis"
SET_VOCABULARY = f"{LIDAR_NODE}/set_vocabulary"
LOAD_CHECKPOINT = f"{LIDAR_NODE}/load_checkpoint"
ROLLBACK = f"{LIDAR_NODE}/rollback"
MAP_CLOUD = f"{MAP_NODE}/output/map"
COSTMAP_MASK = f"{MAP_NODE}/output/costmap_filter_mask"
QUERY = f"{MAP_NODE}/query"
APPROACH = f"{MAP_NODE}/approach"
SAVE_MAP = f"{MAP_NODE}/save_map"
LOAD_MAP = f"{MAP_NODE}/load_map"

ROBOT_VARIABLE = "OV3D_ROBOT"


def robot() -> str:
    """The namespace of the robot that tools talk to: ``ov3d --robot NAME`` or ``$OV3D_ROBOT``; "" is none."""
    return os.environ.get(ROBOT_VARIABLE, "").strip("/")
