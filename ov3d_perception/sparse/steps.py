"""Records that compiled code goes through, one after the other, without Python in between.

A record (:class:`~ov3d_perception.sparse.layer_code.Step` and others) begins with the address of a function and the
number of its blocks; the rest are addresses and sizes that the function reads. Each thread that runs the records takes
blocks until there are none, and then waits only for blocks that other threads have begun. So a thread that the system
lets wait delays none but its own block.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from functools import cache

import torch
from jaxtyping import Int64
from llvmlite import ir
from torch import Tensor

from ov3d_perception.llvm_code import DOUBLE, FLOAT, LONG, LONGS, WORD, Code, address_of
from ov3d_perception.sparse.compiling import compiled
from ov3d_perception.sparse.runtime import arena
from ov3d_perception.sparse.runtime.one_core_pool import one_core_pool

LENGTH = 27
"""Numbers of a record: those of the longest kind."""
_PADDING = (0,) * LENGTH
_LOOKS = 64
"""Times that a thread looks whether the others are done before it lets another thread have the core."""
_FLOATS = torch.zeros(0)


class Record:
    """The fields of a record as values of the function that reads it."""

    def __init__(self, code: Code, record: ir.Value, fields: Sequence[str]) -> None:
        self._code, self._record, self._fields = code, record, fields

    def number(self, name: str) -> ir.Value:
        """An integer."""
        return self._code.load(self._code.at(self._record, self._fields.index(name)))

    def real(self, name: str) -> ir.Value:
        """A number in double precision, stored by :func:`bits_of`."""
        return self._code.bitcast(self.number(name), DOUBLE)

    def array(self, name: str, kind: ir.Type) -> ir.Value:
        """A pointer."""
        return self._code.inttoptr(self.number(name), kind.as_pointer())


def bits_of(number: float) -> int:
    """A double's bits as the integer that a record holds."""
    return ctypes.c_int64.from_buffer(ctypes.c_double(number)).value


def step_function(name: str, write: Callable[[Code], None]) -> int:
    """Address of a function of a record, the number of a block, and the thread's room for sums."""
    return address_of(compiled(name, [LONGS, LONG, FLOAT], write))


def table_of(steps: Sequence[tuple[int, ...]]) -> Int64[Tensor, "s n"]:
    """The records one after the other, all of one length."""
    numbers = array("q")
    for step in steps:
        numbers.extend(step)
        numbers.extend(_PADDING[len(step) :])
    return torch.frombuffer(numbers, dtype=torch.int64).view(-1, LENGTH)


def run_steps(steps: Sequence[tuple[int, ...]], room: int) -> None:
    """Run all records on PyTorch's number of threads. room: floats that a block of any of them may ask for."""
    threads = max(1, min(torch.get_num_threads(), max(step[1] for step in steps)))
    table = table_of(steps)
    counters = torch.zeros(2 * len(steps), dtype=torch.int64)
    sums, run = arena.empty(threads, max(room, 1), _FLOATS), runner()

    def work(thread: int) -> None:
        run(table.data_ptr(), counters.data_ptr(), sums[thread].data_ptr(), len(steps))

    pool = one_core_pool("sparse", threads) if threads > 1 else None
    others = [] if pool is None else [pool.submit(work, thread) for thread in range(1, threads)]
    work(0)
    for other in others:  # one that has not begun has nothing left to do
        if not other.cancel():
            other.result()


@cache
def runner() -> Callable[..., None]:
    """A function of: the records, two counters for each (blocks begun and blocks done, zero before), room for a block's
    sums, the number of records. To be called in each thread with room of its own."""
    return compiled("run_steps", [LONGS, LONGS, FLOAT, LONG], _write_runner)


def _write_runner(code: Code) -> None:
    records, counters, sums, steps = code.fn.args
    kind = ir.FunctionType(ir.VoidType(), [LONGS, LONG, FLOAT.as_pointer()])
    let_go = ir.Function(code.module, ir.FunctionType(WORD, []), "sched_yield")  # the C library's
    with code.loop(0, steps) as number:
        record = code.at(records, (number, LONG(LENGTH)))
        step = Record(code, record, ("function", "blocks"))
        blocks, function = step.number("blocks"), step.array("function", kind)
        begun, done = (code.at(counters, (number, LONG(2)), which) for which in (0, 1))
        block = code.variable(LONG, code.atomic_rmw("add", begun, LONG(1), "seq_cst"))
        with code.loop_while(lambda: code.icmp_signed("<", code.load(block), blocks)):
            code.call(function, [record, code.load(block), sums])
            code.atomic_rmw("add", done, LONG(1), "seq_cst")
            code.store(code.atomic_rmw("add", begun, LONG(1), "seq_cst"), block)
        looks = code.variable(LONG, LONG(0))
        with code.loop_while(lambda: code.icmp_signed("<", code.load_atomic(done, "acquire", 8), blocks)):
            code.increment(looks)
            with code.if_then(code.icmp_signed(">", code.load(looks), LONG(_LOOKS))):
                code.call(let_go, [])
