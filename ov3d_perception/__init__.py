"""Open-vocabulary 3D perception: distil CLIP into a LiDAR network, run it live in ROS 2, ask it in words."""

__version__ = "0.1.0"
