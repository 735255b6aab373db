"""What verifies the package's jaxtyping annotations while tests run. mypy checks all other types.

jaxtyping has an import hook of its own. It decorates every function, which costs each call tens of microseconds also
where there is no array, and it makes Python compile anew all that the package imports from elsewhere.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from inspect import isclass
from types import CodeType, ModuleType
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped

_CHECKED = "__checked__"


def check_shapes(package: str) -> None:
    """Verify at every call the annotations in ``package`` that hold an array's shape or dtype. Before it is imported.

    The functions and dataclasses are decorated by :func:`checked` as if it stood above them in the source.
    """
    sys.meta_path.insert(0, _Finder(package))


def checked(decorated: Any) -> Any:
    """A function or dataclass whose arrays are verified; the same object if its annotations hold none.

    Names that its module defines further down are not known yet: annotations with them are not verified.
    """
    function = decorated.__init__ if isclass(decorated) else decorated
    annotations, names = getattr(function, "__annotations__", {}), getattr(function, "__globals__", {})
    hints = {name: _evaluated(hint, names) for name, hint in annotations.items()}
    shapes = {name: hint for name, hint in hints.items() if _holds_shape(hint)}
    if not shapes:
        return decorated
    function.__annotations__ = shapes
    return jaxtyped(decorated, typechecker=beartype)


def _evaluated(hint: Any, names: dict[str, Any]) -> Any:
    try:
        return eval(hint, names) if isinstance(hint, str) else hint
    except Exception:
        return Any


def _holds_shape(hint: Any) -> bool:
    return (isclass(hint) and issubclass(hint, AbstractArray)) or any(map(_holds_shape, get_args(hint)))


class _Finder(MetaPathFinder):
    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != self._package:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        tree = ast.parse(self.get_data(self.path), self.path)
        _decorate(tree)
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        setattr(module, _CHECKED, checked)
        super().exec_module(module)


def _decorate(node: ast.AST) -> None:
    """Innermost for functions: other decorators take annotations away. Outermost for classes: @dataclass is first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            child.decorator_list.append(ast.Name(_CHECKED, ast.Load(), lineno=child.lineno, col_offset=0))
        elif isinstance(child, ast.ClassDef):
            child.decorator_list.insert(0, ast.Name(_CHECKED, ast.Load(), lineno=child.lineno, col_offset=0))
        if isinstance(child, ast.stmt):
            _decorate(child)
