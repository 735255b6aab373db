"""Former place of `language.labelset`; the next release knows the new one only."""

from ov3d_perception.language.labelset import LabelSet as LabelSet
