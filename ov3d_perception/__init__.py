"""Open-vocabulary 3D perception: distil CLIP into a LiDAR network, run it live in ROS 2, ask it in words."""

import os

# Waiting OpenMP threads sleep rather than spin: a robot's cores are shared, and two spinning processes of two threads
# on two cores slow each other down several times. It counts only before PyTorch is imported, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
