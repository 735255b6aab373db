"""Point clouds in files of other programs: PCD, PLY, LAS, KITTI and numpy."""
