"""LLVM code generation: functions compiled for this processor at their first call.

LLVM comes as a wheel (llvmlite), so installation compiles nothing. :class:`Code` writes loops and vectors instead of
LLVM's blocks and phis; LLVM keeps the variables in registers.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from llvmlite import __version__ as llvmlite_version
from llvmlite import binding, ir

from ov3d_perception.code_cache import cached

FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
BYTE, HALF, WORD, LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
"""BYTE: without a sign in features, with one in weights; HALF: the bits of a bfloat16."""
LONGS = LONG.as_pointer()
"""An argument that is an array of 64-bit integers; LONG is one such integer."""
_ALIGNED = 4
_lock = threading.Lock()
_engines: list[Any] = []
"""The compiled code; it lives as long as the process."""


class Host(NamedTuple):
    """This processor: floats in its widest vector, its vector registers, whether it multiplies pairs of bfloat16,
    whether it does four bytes at a time, and whether pairs of bfloat16 are faster than floats."""

    lanes: int
    registers: int
    dot: bool
    dot_bytes: bool = False
    dot_pays: bool = False


@cache
def host() -> Host:
    """The processor, as LLVM detects it. Products of pairs have half the rate on Intel's that have AMX, too."""
    has = binding.get_host_cpu_features()
    if has.get("avx512f") and has.get("avx512vl"):
        dot = bool(has.get("avx512bf16"))
        return Host(16, 32, dot, bool(has.get("avx512vnni")), dot and not has.get("amx-bf16"))
    if has.get("avx2") and has.get("fma"):
        return Host(8, 16, False, bool(has.get("avxvnni")))
    return Host(4, 32 if has.get("neon") else 16, False)


@cache
def halves_in_vectors(device: str = "cpu") -> bool:
    """Whether PyTorch multiplies halves in vectors on a device of this type: on a processor by AVX-512, or ARM's bf16.
    Without, a product of bfloat16 takes several times that of float32."""
    return device != "cpu" or host().lanes == 16 or bool(binding.get_host_cpu_features().get("bf16"))


class Code(ir.IRBuilder):
    """The body of a function whose arguments are pointers and 64-bit integers."""

    def __init__(self, module: ir.Module, name: str, kinds: Sequence[ir.Type]) -> None:
        types = [kind if kind in (LONG, LONGS) else kind.as_pointer() for kind in kinds]
        self.fn = ir.Function(module, ir.FunctionType(ir.VoidType(), types), name)
        super().__init__(self.fn.append_basic_block("entry"))
        self._entry = self.block

    def variable(self, kind: ir.Type, start: ir.Value) -> ir.Value:
        """A variable of the function, set to ``start`` here."""
        with self.goto_block(self._entry):
            self.position_at_start(self._entry)
            place = self.alloca(kind)
        self.store(start, place)
        return place

    @contextmanager
    def loop(self, start: ir.Value | int, stop: ir.Value, step: int = 1) -> Iterator[ir.Value]:
        """``for index in range(start, stop, step)``."""
        head, body, done = (self.append_basic_block(name) for name in ("head", "body", "done"))
        before = self.block
        self.branch(head)
        self.position_at_end(head)
        index = self.phi(LONG)
        index.add_incoming(LONG(start) if isinstance(start, int) else start, before)
        self.cbranch(self.icmp_signed("<", index, stop), body, done)
        self.position_at_end(body)
        yield index
        index.add_incoming(self.add(index, LONG(step)), self.block)
        self.branch(head)
        self.position_at_end(done)

    @contextmanager
    def loop_while(self, condition: Callable[[], ir.Value]) -> Iterator[None]:
        """``while condition()``; what the condition writes down is evaluated before each round."""
        head, body, done = (self.append_basic_block(name) for name in ("head", "body", "done"))
        self.branch(head)
        self.position_at_end(head)
        self.cbranch(condition(), body, done)
        self.position_at_end(body)
        yield
        self.branch(head)
        self.position_at_end(done)

    def increment(self, place: ir.Value, by: ir.Value | None = None) -> ir.Value:
        """Add to the integer at an address, 1 by default; returns what it was before."""
        before = self.load(place)
        self.store(self.add(before, before.type(1) if by is None else by), place)
        return before

    def at(self, base: ir.Value, *terms: ir.Value | int | tuple[ir.Value, ir.Value]) -> ir.Value:
        """The address ``base + sum of terms`` (in elements); a pair is a product."""
        for term in terms:
            index = self.mul(*term) if isinstance(term, tuple) else LONG(term) if isinstance(term, int) else term
            base = self.gep(base, [index])
        return base

    def long(self, place: ir.Value) -> ir.Value:
        """Load the 32-bit integer at an address."""
        return self.sext(self.load(place), LONG)

    def least(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Minimum of two integers."""
        return self.select(self.icmp_signed("<", a, b), a, b)

    def greatest(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Maximum of two integers."""
        return self.select(self.icmp_signed(">", a, b), a, b)

    def read(self, place: ir.Value, lanes: int) -> ir.Value:
        """Load a vector from an address."""
        return self.load(self._vector_at(place, lanes), align=_ALIGNED // 2)

    def write(self, vector: ir.Value, place: ir.Value) -> None:
        """Store a vector at an address."""
        self.store(vector, self._vector_at(place, vector.type.count), align=_ALIGNED)

    def _vector_at(self, place: ir.Value, lanes: int) -> ir.Value:
        return self.bitcast(place, ir.VectorType(place.type.pointee, lanes).as_pointer())

    def splat(self, value: ir.Value, lanes: int) -> ir.Value:
        """A vector with one number in all lanes."""
        empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
        first = self.insert_element(empty, value, WORD(0))
        return self.shuffle_vector(first, empty, ir.Constant(ir.VectorType(WORD, lanes), [0] * lanes))

    def widened(self, bits: ir.Value) -> ir.Value:
        """bfloat16 to float32: its bits are the upper half."""
        vector = isinstance(bits.type, ir.VectorType)
        words, floats = (ir.VectorType(kind, bits.type.count) if vector else kind for kind in (WORD, FLOAT))
        sixteen = ir.Constant(words, [16] * bits.type.count) if vector else WORD(16)
        return self.bitcast(self.shl(self.zext(bits, words), sixteen), floats)

    def narrowed(self, floats: ir.Value) -> ir.Value:
        """The bits of the nearest bfloat16 of each float of a vector; of two as near, the even one."""
        words = ir.VectorType(WORD, floats.type.count)
        bits = self.bitcast(floats, words)
        sixteen, one, below = (ir.Constant(words, [n] * words.count) for n in (16, 1, (1 << 15) - 1))
        odd = self.and_(self.lshr(bits, sixteen), one)
        upper = self.lshr(self.add(bits, self.add(odd, below)), sixteen)
        return self.trunc(upper, ir.VectorType(HALF, words.count))

    def as_floats(self, vector: ir.Value) -> ir.Value:
        """Floats of a vector of floats, of the bits of bfloat16, or of bytes without a sign."""
        kind = vector.type.element
        if kind is BYTE:
            return self.uitofp(vector, ir.VectorType(FLOAT, vector.type.count))
        return self.widened(vector) if kind is HALF else vector

    def as_kind(self, floats: ir.Value, kind: ir.Type) -> ir.Value:
        """The reverse of :meth:`as_floats`: the nearest number of the kind. Of negative floats there are no bytes."""
        if kind is BYTE:
            lanes = floats.type.count
            half, most = (ir.Constant(floats.type, [value] * lanes) for value in (0.5, 255.0))
            value = self.fadd(floats, half)
            value = self.select(self.fcmp_ordered("<", value, most), value, most)
            return self.trunc(self.fptosi(value, ir.VectorType(WORD, lanes)), ir.VectorType(BYTE, lanes))
        return self.narrowed(floats) if kind is HALF else floats

    def intrinsic(self, name: str, *args: ir.Value) -> ir.Value:
        """Call an LLVM intrinsic; its type is that of the first argument."""
        kind = args[0].type
        known = self.module.globals.get(name)
        return self.call(known or ir.Function(self.module, ir.FunctionType(kind, [a.type for a in args]), name), args)

    def prefetch(self, place: ir.Value) -> None:
        """Prefetch the cache line of an address."""
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), WORD, WORD, WORD])
        known = self.module.globals.get("llvm.prefetch.p0") or ir.Function(self.module, kind, "llvm.prefetch.p0")
        self.call(known, [self.bitcast(place, ir.IntType(8).as_pointer()), WORD(0), WORD(2), WORD(1)])

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """``a * b + c`` of float vectors."""
        return self.intrinsic(f"llvm.fmuladd.v{a.type.count}f32", a, b, c)

    def square_root(self, value: ir.Value) -> ir.Value:
        """Of double precision vectors."""
        return self.intrinsic(f"llvm.sqrt.v{value.type.count}f64", value)


def compiled(
    name: str, kinds: Sequence[ir.Type], write: Callable[[Code], None], version: str | None = None
) -> Callable[..., None]:
    """A function of addresses and integers, whose body ``write`` generates. It runs without the interpreter's lock.

    Its object code is kept on disk for the next process (:mod:`ov3d_perception.code_cache`), under the program.
    version: what decides the program beside the name and the kinds; then it is kept under these three, and where the
    code is there the program is not even written.
    """
    with _lock:
        compiler = _compiler()
        if version is None:
            program = _program(name, kinds, write)
            machine_code = cached(f"{compiler.identity}\n{program}", lambda: compiler.object_code(program))
        else:
            about = f"{compiler.identity}\n{version}\n{name}({', '.join(map(str, kinds))})"
            machine_code = cached(about, lambda: compiler.object_code(_program(name, kinds, write)))
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), compiler.target)
        engine.add_object_file(binding.ObjectFileRef.from_data(machine_code))
        engine.finalize_object()
        _engines.append(engine)
        types = [ctypes.c_int64 if kind == LONG else ctypes.c_void_p for kind in kinds]
        made: Callable[..., None] = ctypes.CFUNCTYPE(None, *types)(engine.get_function_address(name))
        return made


def _program(name: str, kinds: Sequence[ir.Type], write: Callable[[Code], None]) -> str:
    """In LLVM's language."""
    module = ir.Module(name)
    module.triple = binding.get_process_triple()
    code = Code(module, name, kinds)
    write(code)
    code.ret_void()
    return str(module)


class _Compiler:
    """LLVM for this processor. identity: its version, options and the processor."""

    def __init__(self) -> None:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        features = binding.get_host_cpu_features()
        features["prefer-256-bit"] = False
        options = {"cpu": binding.get_host_cpu_name(), "features": features.flatten(), "opt": 3}
        triple = binding.get_process_triple()
        self.identity = f"llvmlite {llvmlite_version} llvm {binding.llvm_version_info} {triple} {options}"
        self.target = binding.Target.from_triple(triple).create_target_machine(**options, jit=True)

    def object_code(self, program: str) -> bytes:
        """Optimised machine code of a module."""
        parsed = binding.parse_assembly(program)
        parsed.verify()
        passes = binding.create_pass_builder(self.target, binding.create_pipeline_tuning_options(speed_level=3))
        passes.getModulePassManager().run(parsed, passes)
        return bytes(self.target.emit_object(parsed))


@cache
def _compiler() -> _Compiler:
    return _Compiler()


def address_of(function: Callable[..., None]) -> int:
    """Where compiled code begins, to be called by other compiled code."""
    address = ctypes.cast(function, ctypes.c_void_p).value  # type: ignore[arg-type]
    assert address is not None
    return address
