"""Lets the tests of this room share ``colour_scene``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
