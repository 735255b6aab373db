"""rosbag2 files in and out, and the messages in them, without ROS (through rosbags)."""
