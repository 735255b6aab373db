"""Former place of `language.labelset`, which scripts of others still name."""

from ov3d_perception.language.labelset import LabelSet as LabelSet
