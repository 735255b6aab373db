"""Where a taught word comes from: what a bank keeps beside its embedding, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMED = 3


def describe_origin(word: str, origin: Mapping[str, Any]) -> str:
    """One line on a word that was taught (:mod:`ov3d_perception.teach_tool`) or fitted (``lifting.fit_words``)."""
    if origin["from"] == "fit":
        return (
            f"{word}: fitted {origin['date'][:10]} to {origin['features']} points of {origin['source']} as a word of "
            f"{origin['labelset']}; encoder {origin['encoder']}"
        )
    if origin["from"] == "map":
        source = f"{origin['patches']} voxels at {origin['place']} of {origin['map']} (frame '{origin['frame']}')"
    else:
        names = list(origin["files"])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        source = f"{origin['examples']} pictures ({', '.join(names[:_NAMED])}{more})"
        source += f", not {len(origin['not'])} others" if origin["not"] else ""
    return f"{word}: taught {origin['date'][:10]} by {source}; encoder {origin['encoder']}"
