"""The simulated street: worlds from a seed, a LiDAR, six cameras, and the truth about every point and pixel."""

VERSION = 3  # of what a seed looks like; part of every cache key and model card
