"""Sources of frames, found by name; their splits; writers of the formats of nuScenes, ScanNet and bags."""
