"""How good a checkpoint is, and pictures of it."""
