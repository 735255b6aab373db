"""Poses, TF, cameras, which pixel sees which point, de-skewing, the ground, boxes, voxels, superpoints."""
