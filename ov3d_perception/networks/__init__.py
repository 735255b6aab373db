"""The 3D networks, what they are told of a point, their checkpoints, and weights of other projects."""
