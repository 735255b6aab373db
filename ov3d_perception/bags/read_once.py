"""What has been read of a whole bag in this process, as long as its files stay as they are.

A learning order looks at one bag several times: what it holds, whether it is right, what teaches, what is held back.
Stamps and transforms take a pass over the file each; the second look finds them here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")
_BAGS = 4  # the last ones looked at

_State = tuple[tuple[str, int, int], ...]
_known: OrderedDict[_State, dict[Hashable, Any]] = OrderedDict()
_lock = Lock()


def state_of(files: Sequence[Path]) -> _State:
    """Path, time of change (ns) and size of each file: another state, another bag. Raises OSError."""
    found = [(file.resolve(), file.stat()) for file in files]
    return tuple((str(path), about.st_mtime_ns, about.st_size) for path, about in found)


def read_once(state: _State, what: Hashable, read: Callable[[], T]) -> T:
    """What ``read`` returns, or has returned before for this state. It is shared: nobody may change it."""
    with _lock:
        kept = _known.setdefault(state, {})
        _known.move_to_end(state)
        while len(_known) > _BAGS:
            _known.popitem(last=False)
    if what not in kept:
        kept[what] = read()
    found: T = kept[what]
    return found
