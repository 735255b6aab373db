"""Start the nodes without ``launch``: the same executables, YAML files and remappings, as child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, TracebackType
from typing import IO

from ov3d_perception.errors import Ov3dError
from ov3d_perception.ros.environment import large_message_environment
from ov3d_perception.ros.tools.systems import SYSTEMS, NodeSpec, Overrides, parse_arguments, parse_overrides

_POLL_S = 0.1
#: How a node is stopped: the signal, and how long it has to obey [s].
_STOPPING = ((signal.SIGINT, 15.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))


def up(name: str, arguments: Sequence[str] = ()) -> int:
    """Run the nodes of a system (a name in SYSTEMS) until SIGINT or SIGTERM, or until one of them ends.

    arguments: ``name:=value``, see :func:`systems.parse_overrides`. The nodes' logs appear here, each line behind its
    node's name. A node that ends takes the others with it; none is started again. Returns the exit code: 0 after a
    signal, else that of the node that ended (1 if it was 0). Call it from the main thread. Raises Ov3dError for an
    unknown system or argument.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with NodeProcesses(name, parse_arguments(arguments)) as nodes:
            print(f"[up] Starting {', '.join(nodes.pids)}; Ctrl-C ends", file=sys.stderr, flush=True)
            while not stop.wait(_POLL_S):
                ended = nodes.ended()
                if ended is not None:
                    print(f"[up] {ended[0]} ended with exit code {ended[1]}", file=sys.stderr)
                    return ended[1] or 1
        return 0
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class NodeProcesses:
    """The nodes of a system as child processes, for the length of a ``with`` block.

    log: called with each line the nodes print; by default it goes to standard error.
    """

    def __init__(
        self, name: str, overrides: Mapping[str, str] | None = None, log: Callable[[str], None] | None = None
    ) -> None:
        if name not in SYSTEMS:
            raise Ov3dError(f"There is no system '{name}'", f"Choose one of: {', '.join(SYSTEMS)}")
        self._specs = SYSTEMS[name]
        self._overrides = parse_overrides(overrides or {})
        self._log = log or (lambda line: print(line, file=sys.stderr, flush=True))
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._forwarders: list[threading.Thread] = []

    def __enter__(self) -> NodeProcesses:
        try:
            for spec in self._specs:
                self._start(spec)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pids(self) -> dict[str, int]:
        """Process id of each node."""
        return {name: process.pid for name, process in self._processes.items()}

    def ended(self) -> tuple[str, int] | None:
        """(name, exit code) of a node that has ended by itself, or None."""
        codes = ((name, process.poll()) for name, process in self._processes.items())
        return next(((name, code) for name, code in codes if code is not None), None)

    def stop(self) -> None:
        """Ask all nodes to end, insist where needed, and wait for them and for the rest of their logs."""
        for number, patience_s in _STOPPING:
            running = [process for process in self._processes.values() if process.poll() is None]
            for process in running:
                process.send_signal(number)
            deadline = time.monotonic() + patience_s
            for process in running:
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self._log(f"[up] a node has not ended {patience_s:.0f} s after {number.name}")
        for forwarder in self._forwarders:
            forwarder.join(1.0)

    def _start(self, spec: NodeSpec) -> None:
        process = subprocess.Popen(
            node_command(spec, self._overrides),
            env={**os.environ, **large_message_environment(), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C in a terminal reaches us alone; we pass it on, once
            preexec_fn=restore_signals,
        )
        self._processes[spec.name] = process
        assert process.stdout is not None
        forwarder = threading.Thread(target=self._forward, args=(spec.name, process.stdout), daemon=True)
        forwarder.start()
        self._forwarders.append(forwarder)

    def _forward(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            self._log(f"[{name}] {line.rstrip()}")


def node_command(spec: NodeSpec, overrides: Overrides) -> list[str]:
    """The command line of one node."""
    command = [sys.executable, "-m", "ov3d_perception.ros.start", spec.name, "--ros-args"]
    if overrides.namespace:
        command += ["-r", f"__ns:={overrides.namespace}"]
    for file in overrides.parameter_files(spec):
        command += ["--params-file", str(file)]
    for topic, target in overrides.remappings(spec).items():
        command += ["-r", f"{topic}:={target}"]
    for parameter, value in overrides.parameters.get(spec.name, {}).items():
        command += ["-p", f"{parameter}:={value}"]
    return command


def restore_signals() -> None:
    """In a child, before exec: a parent in the background of a shell would pass on that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
