"""Whole clouds in batches: read, augmented, voxelised."""
