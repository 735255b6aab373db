"""The nodes. ROS is known here, and nowhere else; ``tools`` holds what is started beside them."""
