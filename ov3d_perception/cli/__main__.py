"""``python -m ov3d_perception.cli``: the same as ``ov3d``."""

from ov3d_perception.cli import main

if __name__ == "__main__":
    main()
