"""The equations and the step of a paper or baseline, a file each, in PyTorch alone."""
