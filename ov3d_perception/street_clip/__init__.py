"""The small CLIP of the simulated street: recipe, training and score."""
