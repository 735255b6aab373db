"""Things found on a street: each function makes one at random, in its own frame (x forward, z up, ground at 0)."""
