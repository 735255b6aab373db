"""A network in training as records that compiled code runs through, once forward and once backward.

Of each layer, forward: the products of its convolution; moments of their rows; norm, shortcut and ReLU. Backward, layer
after layer from the last to the first: the norm's gradient, which takes the memory of the products; that of the kernel;
that of the features, added to what later layers have put there. Gradients of features that are not needed at the same
time share their memory. To autograd the network is one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from ov3d_perception.sparse import kernels, norm_code
from ov3d_perception.sparse.batch_norm import count_batch, norm_step
from ov3d_perception.sparse.buffers import Buffer, Memory, allocate, place, shared_slots
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.kernel_gradient import kernel_gradient_step
from ov3d_perception.sparse.kernel_map import KernelMap
from ov3d_perception.sparse.norm_code import TERMS, NormStep, parts_of
from ov3d_perception.sparse.plan import maps_of
from ov3d_perception.sparse.recording import Recorded, Recording, Traced, UntraceableError, record
from ov3d_perception.sparse.runtime import arena
from ov3d_perception.sparse.runtime.memory import as_resource_error
from ov3d_perception.sparse.steps import run_steps
from ov3d_perception.sparse.tensor import SparseTensor
from ov3d_perception.sparse.training_products import Kernels, Product, product_of, whole

Forward = Callable[[Any, SparseTensor], SparseTensor]
_plans: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], TrainingPlan | None]] = WeakKeyDictionary()


def planned_in_training(forward: Forward) -> Forward:
    """Decorator of a network's ``forward``: where gradients are recorded on a CPU of float32 features, with our own
    backend, the network is recorded at its first call and run as a :class:`TrainingPlan`; else, and where it cannot be
    recorded, layer by layer. The results differ by rounding. Under autocast to bfloat16 its convolutions multiply that
    where the processor is faster with it."""

    @wraps(forward)
    def run(network: nn.Module, x: SparseTensor) -> SparseTensor:
        plan = None if isinstance(x, Traced) or not _wanted(x) else _plan_of(network, x.feats.shape[1])
        made = None if plan is None else plan(x)
        return forward(network, x) if made is None else made

    return run


def _wanted(x: SparseTensor) -> bool:
    return (
        torch.is_grad_enabled()
        and x.feats.device.type == "cpu"
        and x.feats.dtype == torch.float32
        and not x.feats.requires_grad
        and (not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") == torch.bfloat16)
        and type(x.manager) is CoordinateManager
        and x.stride == 1
    )


def _plan_of(network: nn.Module, channels: int) -> TrainingPlan | None:
    """The network's plan, made anew when modules have been replaced; None for a network that has none, also while some
    of its parts have hooks."""
    modules = list(network.modules())
    if any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules if m is not network):
        return None
    known, plan = _plans.get(network, ((), None))
    now = (channels, *map(id, modules))
    if now != known:
        try:
            plan = TrainingPlan(record(network, channels, torch.float32))
        except UntraceableError:
            plan = None
        _plans[network] = now, plan
    return plan


class _Layer(NamedTuple):
    recorded: Recorded
    products: list[Product]  # the shortcut's projection, if it has one; the layer's own

    @property
    def plain_shortcut(self) -> Buffer | None:
        """The shortcut that is added as it is."""
        return self.recorded.shortcut if len(self.products) == 1 else None


class _Way(NamedTuple):
    """A layer backward. passed: what becomes of the gradient of its plain shortcut; adds: of the gradient of each
    product's source, whether it is added to what is there; None: not wanted. In the order of a layer's products."""

    layer: _Layer
    passed: str
    adds: list[bool | None]


@dataclass
class _Pass:
    """What a forward pass leaves for the backward pass.

    maps, norms: of each product. rows: of each stride. memory: layers' results. read: what products read, the same or
    rounded to another type, dtype. raw: what each product's norm normalises; backward, its gradient. terms: see
    :data:`~ov3d_perception.sparse.norm_code.TERMS`. parts: room for a norm's sums. room: floats for a block's.
    """

    rows: dict[int, int]
    memory: Memory
    read: Memory
    dtype: torch.dtype
    raw: list[Tensor]
    terms: list[Tensor]
    parts: Tensor
    kept: list[bool]
    maps: list[KernelMap] = field(default_factory=list)
    norms: list[NormStep] = field(default_factory=list)
    room: int = 1


class TrainingPlan:
    """The layers of a recorded network. ``plan(x)`` is ``network(x)`` in training, or None where it does not apply.

    Raises UntraceableError where there is no compiled code for a layer.
    """

    def __init__(self, recording: Recording) -> None:
        self.source, recorded, self.target = recording
        numbers = iter(range(2 * len(recorded)))
        self.layers = [_layer(made, self.source, numbers) for made in recorded]
        self.products = [product for made in self.layers for product in made.products]
        self.parameters = [t for p in self.products for t in (p.conv.kernel, p.norm.weight, p.norm.bias)]
        results = dict.fromkeys(made.target.place()[0] for made in recorded if made.target is not self.target)
        self.slots = {buffer: number for number, buffer in enumerate(results)}
        uses = [made.buffers for made in reversed(recorded)]
        self.gradient_slots = shared_slots(uses, [self.source, self.target])
        self.backward_order = self._backward_order()

    def _backward_order(self) -> list[_Way]:
        """The layers from the last to the first; the first gradient of a buffer is written, others are added."""
        written, order = {self.target}, list[_Way]()

        def adds(buffer: Buffer) -> bool | None:
            if buffer is self.source:
                return None
            known = _covered(buffer, written)
            if not known and any(part.whole is not None and part.whole[0] is buffer for part in written):
                raise UntraceableError("a part of a tensor is used after the whole")
            written.add(buffer)
            return known

        for made in reversed(self.layers):
            if not _covered(made.recorded.target, written):
                raise UntraceableError("a layer's result is not used")
            passed = None if made.plain_shortcut is None else adds(made.plain_shortcut)
            first, *rest = (adds(product.source) for product in reversed(made.products))
            how = "none" if passed is None else "added" if passed else "written"
            order.append(_Way(made, how, [*rest, first]))
        return order

    def __call__(self, x: SparseTensor) -> SparseTensor | None:
        """(N, in) -> (N, out). None where weights are fixed or of another type, or for voxels so few that there is
        nothing to normalise at some stride."""
        if not all(p.requires_grad and p.dtype == torch.float32 and p.is_contiguous() for p in self.parameters):
            return None
        with as_resource_error(len(x)):
            maps = maps_of([made.recorded for made in self.layers], x.manager)
            if min(len(x.manager.voxels(made.recorded.target.stride)) for made in self.layers) < 2:
                return None
            count_batch(*(product.norm for product in self.products if product.norm.training))
            half = torch.is_autocast_enabled("cpu") and kernels.halves_pay()
            dtype = torch.bfloat16 if half else torch.float32
            return x.replace(_Run.apply(self, x, maps, dtype, *self.parameters))

    def forward(self, x: SparseTensor, maps: Sequence[KernelMap], dtype: torch.dtype) -> tuple[Tensor, _Pass]:
        """The result, and what :meth:`backward` needs. dtype: of what is multiplied."""
        left = self._memory(x, dtype)
        packs = Kernels(self.products, dtype)
        each_row = {stride: KernelMap.of_each_row(count) for stride, count in left.rows.items()}
        steps: list[tuple[int, ...]] = []
        for made, own_map in zip(self.layers, maps, strict=True):
            recorded = made.recorded
            left.maps += [each_row[recorded.target.stride]] * (len(made.products) - 1) + [own_map]
            for product in made.products:
                feats, out = place(product.source, left.read), whole(left.raw[product.number])
                its, room = packs.steps(product.conv, left.maps[product.number], feats, out)
                steps, left.room = [*steps, *its], max(left.room, room)
            *projection, own = made.products
            beside, terms, kind = (0, 0), 0, "none"
            for other in projection:  # its result has no place, since the layer's own norm adds it
                left.norms.append(self._norm(other, left, (0, 0)))
                steps += norm_code.forward_steps(left.norms[-1], "none", False, left.kept[other.number])
                beside, terms, kind = whole(left.raw[other.number]), left.terms[other.number].data_ptr(), "normalised"
            if made.plain_shortcut is not None:
                beside, kind = place(made.plain_shortcut, left.memory), "same"
            norm = self._norm(own, left, place(recorded.target, left.memory), beside, terms)
            left.norms.append(norm)
            if left.read is not left.memory and recorded.target.place()[0] in left.read:
                half, half_wide = place(recorded.target, left.read)
                norm = norm._replace(half=half, half_wide=half_wide)
            steps += norm_code.forward_steps(norm, kind, True, left.kept[own.number])
        run_steps(steps, left.room)
        return left.memory[self.target], left

    def _memory(self, x: SparseTensor, dtype: torch.dtype) -> _Pass:
        """Room for all that a step computes. The result has memory of its own: it may be kept longer."""
        rows = {b.stride: len(x.manager.voxels(b.stride)) for b in (self.source, self.target, *self.slots)}
        memory = allocate(self.slots, rows, x.feats)
        memory[self.target] = arena.empty(len(x), self.target.channels, x.feats)
        memory[self.source] = x.feats.contiguous()
        read = memory if dtype == torch.float32 else self._rounded(x, rows, dtype)
        shapes = [Buffer(m.recorded.target.stride, p.norm.num_features) for m in self.layers for p in m.products]
        raw = allocate({shape: number for number, shape in enumerate(shapes)}, rows, x.feats)
        terms = [torch.empty(len(TERMS), shape.channels) for shape in shapes]
        parts = torch.empty(max(2 * parts_of(rows[shape.stride]) * shape.channels for shape in shapes))
        kept = [not product.norm.training for product in self.products]
        return _Pass(rows, memory, read, dtype, list(raw.values()), terms, parts, kept)

    def _rounded(self, x: SparseTensor, rows: dict[int, int], dtype: torch.dtype) -> Memory:
        """Room for what products read in another type, and the network's inputs in it."""
        sources = dict.fromkeys(product.source.place()[0] for product in self.products)
        slots = {buffer: number for number, buffer in enumerate(sources) if buffer is not self.source}
        memory = allocate(slots, rows, x.feats.new_empty(0, 0, dtype=dtype))
        memory[self.source] = nn.functional.pad(x.feats, (0, x.feats.shape[1] % 2)).to(dtype)
        return memory

    def _norm(
        self, product: Product, left: _Pass, out: tuple[int, int], beside: tuple[int, int] = (0, 0), terms: int = 0
    ) -> NormStep:
        rows = left.raw[product.number]
        places = left.parts.data_ptr(), left.terms[product.number].data_ptr()
        return norm_step(product.norm, (rows.data_ptr(), len(rows)), out, places, beside, terms)

    def backward(self, grad: Float32[Tensor, "n c"], left: _Pass) -> list[Tensor]:
        """Gradients of the parameters."""
        gradients = [torch.empty_like(parameter) for parameter in self.parameters]
        packs, most = Kernels(self.products, left.dtype), max(raw.numel() for raw in left.raw)
        rounded = None if left.read is left.memory else arena.empty(1, most, grad.new_empty(0, dtype=left.dtype))
        memory = allocate(self.gradient_slots, left.rows, grad)
        memory[self.target] = grad.contiguous()
        steps: list[tuple[int, ...]] = []
        for made, passed, adds in self.backward_order:
            target = made.recorded.target
            for product, add in reversed(list(zip(made.products, adds, strict=True))):
                shortcut = made.plain_shortcut if passed != "none" else None
                into = (0, 0) if shortcut is None else place(shortcut, memory)
                ways = place(target, left.memory), place(target, memory), into
                by_kernel, *by_norm = (one.data_ptr() for one in gradients[3 * product.number : 3 * product.number + 3])
                by_raw = whole(left.raw[product.number])
                step = _with_gradients(left.norms[product.number], by_raw[0], ways, by_norm)
                if rounded is not None:
                    by_raw = rounded.data_ptr(), by_raw[1]
                    step = step._replace(half=by_raw[0], half_wide=by_raw[1])
                steps += norm_code.backward_steps(step, True, left.kept[product.number], passed)
                pairs, feats = left.maps[product.number], (*place(product.source, left.read), product.conv.in_channels)
                by_pairs = kernel_gradient_step(pairs, feats, (*by_raw, by_raw[1]), left.dtype, by_kernel)
                steps, left.room = [*steps, by_pairs], max(left.room, by_pairs.room)
                if add is not None:
                    into = place(product.source, memory)
                    its, room = packs.steps(product.conv, pairs.transposed, by_raw, into, (True, add))
                    steps, left.room = [*steps, *its], max(left.room, room)
        run_steps(steps, left.room)
        return gradients


def _layer(made: Recorded, source: Buffer, numbers: Iterator[int]) -> _Layer:
    parts: list[tuple[Buffer, nn.Module, nn.Module]] = [(made.source, made.conv, made.norm)]
    if made.projection is not None and made.shortcut is not None:
        parts.insert(0, (made.shortcut, *made.projection))
    return _Layer(made, [product_of(*part, source, numbers) for part in parts])


def _with_gradients(norm: NormStep, by_feats: int, ways: Sequence[tuple[int, int]], by_norm: list[int]) -> NormStep:
    """For the way back. by_feats: where the gradient of what was normalised goes; ways: result, its gradient, that of
    the shortcut; by_norm: where those of weight and bias go."""
    (out, out_wide), (grad, grad_wide), (passed, passed_wide) = ways
    return norm._replace(
        out=out,
        out_wide=out_wide,
        grad=grad,
        grad_wide=grad_wide,
        passed=passed,
        passed_wide=passed_wide,
        by_feats=by_feats,
        by_weight=by_norm[0],
        by_bias=by_norm[1],
    )


def _covered(buffer: Buffer, written: set[Buffer]) -> bool:
    """Whether there is a gradient of it, or of the whole that it is a part of."""
    return buffer in written or (buffer.whole is not None and _covered(buffer.whole[0], written))


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: TrainingPlan, x: SparseTensor, maps: list[KernelMap], dtype: torch.dtype, *parameters: Tensor
    ) -> Tensor:
        out, ctx.left = plan.forward(x, maps, dtype)
        ctx.plan = plan
        ctx.save_for_backward(out, x.feats, *parameters)  # so that changes of them are noticed
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.left is None:
            raise RuntimeError("A step's gradient is computed once: its features' memory is used for it")
        _ = ctx.saved_tensors
        left, ctx.left = ctx.left, None
        return None, None, None, None, *ctx.plan.backward(grad, left)
