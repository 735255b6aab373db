"""The simulated street: worlds from a seed, robots with LiDAR and cameras, and the truth about every point and pixel.

Beside it a furnished room (:mod:`.room`) and a small still scene (:mod:`.still_life`), each with a camera that is
carried through it.
"""

VERSION = 3  # of what a seed looks like; part of every cache key and model card
