"""Labels and words are compared by the names of their classes, not by their number."""

import pytest
from colour_scene import Walls

from ov3d_perception.errors import DatasetError
from ov3d_perception.lifting.sources import FrameSubset, require_classes


@pytest.mark.parametrize("names", [("green", "red"), ("red",), ("red", "green", "blue")])
def test_other_classes_or_another_order_are_an_error(names):
    for source in (Walls("", 2), FrameSubset(Walls("", 2), [1])):
        with pytest.raises(DatasetError, match=rf"'colours' \(red, green\), the words .*\({', '.join(names)}\)"):
            require_classes(source, names)


def test_the_same_classes_and_sources_without_a_label_set_pass():
    require_classes(Walls("", 2), ("red", "green"))
    require_classes([], ("red",))
