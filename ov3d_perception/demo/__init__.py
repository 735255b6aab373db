"""What the demo shows: scores against the simulator's ground truth, pictures, a Rerun recording. No ROS here."""
