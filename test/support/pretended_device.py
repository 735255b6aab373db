"""A device that there is not: tensors that say they lie there, computed on the processor, and refuse to be mixed.

It tells whether all tensors of a computation are made on the device that was asked for; not speed, nor rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("away")
torch.get_device_module("away").get_amp_supported_dtype = lambda: [torch.bfloat16]
AWAY = torch.device("away:0")


class Away(Tensor):
    """A tensor that says it lies on :data:`AWAY`; ``here`` is on the processor."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Away:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined,no-any-return]
            cls, here.shape, strides=here.stride(), dtype=here.dtype, device=AWAY
        )

    def __init__(self, here: Tensor) -> None:
        self.here = here

    def __repr__(self) -> str:
        return f"Away({self.here})"

    def tolist(self) -> Any:
        """PyTorch has none for subclasses."""
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class PretendedDevice(TorchDispatchMode):
    """While it is on, what is made on, or moved to, AWAY lies there."""

    def __enter__(self) -> PretendedDevice:
        torch.__future__.set_swap_module_params_on_conversion(True)
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(numbers, device=AWAY) asks the mode for its last step
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_swap_module_params_on_conversion(False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Raises RuntimeError for tensors of two devices, as a GPU does; numbers, and indices, may come from the CPU."""
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    away = any(isinstance(x, Away) for x in tensors)
    if away and "copy_" not in func.__name__ and "index" not in func.__name__:
        strangers = [x for x in tensors if not isinstance(x, Away) and x.dim() > 0]
        if strangers:
            raise RuntimeError(f"{func}: tensors on two devices, shapes {[tuple(x.shape) for x in strangers]}")
    target = kwargs.get("device")
    if target is not None:
        away = torch.device(target).type == AWAY.type
        kwargs = {**kwargs, "device": torch.device("cpu")}
    made = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    inputs = {id(x.here): x for x in tensors if isinstance(x, Away)}
    return tree_map(lambda x: inputs.get(id(x), Away(x)) if away and isinstance(x, Tensor) else x, made)


def _here(value: Any) -> Any:
    return value.here if isinstance(value, Away) else value
