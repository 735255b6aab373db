"""Where the LiDAR was, told by its scans alone: for bags whose TF lacks a frame in which the robot moves."""
