"""From a robot's bags to a better network of its site, and back to the robot: what ``ov3d learn`` does."""
