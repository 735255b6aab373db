"""Live tests: real rclpy, nodes in processes of their own, a ROS domain that no other test session uses.

Everything waits for events with a bound; nothing sleeps for a fixed time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Read by the message modules when they are imported: every assignment in the tests is type-checked.
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # many small networks side by side

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("ov3d_msgs", reason="ov3d_msgs is not built")
sys.path.insert(0, str(Path(__file__).parent))

from map_harness import IDENTITY, WORDS, Mapper
from ros_harness import Inbox, Lidar, NodeProcess, Probe

_DOMAINS = range(10, 100)  # above, DDS ports reach into the range of outgoing connections


@pytest.fixture(scope="session", autouse=True)
def ros_domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A ROS_DOMAIN_ID held by a file lock, so that parallel sessions on one machine never meet."""
    from ov3d_perception.ros.environment import use_large_messages

    with contextlib.ExitStack() as stack:
        for domain in random.sample(_DOMAINS, len(_DOMAINS)):
            path = Path(tempfile.gettempdir()) / f"ov3d_test_domain_{domain}.lock"
            lock = stack.enter_context(path.open("w"))
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
        else:
            pytest.fail("every ROS domain is taken by another test session")
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros_log"))
        use_large_messages()
        yield domain


@pytest.fixture(scope="session")
def probe(ros_domain: int) -> Iterator[Probe]:
    """The test session's own node."""
    probe = Probe()
    yield probe
    probe.close()


@pytest.fixture(scope="module")
def start_node() -> Iterator[Callable[..., NodeProcess]]:
    """start_node(module, name, parameters, remappings): processes that end with the test module, cleanly."""
    processes: list[NodeProcess] = []

    def start(
        module: str, name: str, parameters: Mapping[str, str], remappings: Mapping[str, str] | None = None
    ) -> NodeProcess:
        processes.append(NodeProcess(module, name, parameters, remappings or {}))
        return processes[-1]

    yield start
    failures = [(p.name, code, p.log) for p in processes if (code := p.stop()) != 0]
    assert not failures, failures


@pytest.fixture(scope="session")
def diagnostics(probe: Probe) -> Iterator[Inbox]:
    """Everybody's /diagnostics."""
    from diagnostic_msgs.msg import DiagnosticArray

    with probe.listening(DiagnosticArray, "/diagnostics") as inbox:
        yield inbox


@pytest.fixture(scope="module")
def lidar_named(probe: Probe) -> Iterator[Callable[[str], Lidar]]:
    """lidar_named(name): the topics of the lidar_node of that name."""
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Lidar:
            lidar = Lidar(probe, name)
            stack.callback(lidar.close)
            return lidar

        yield make


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four words, each an axis of a space of four dimensions."""
    from ov3d_perception.language.vocabulary import TextBank

    path = tmp_path_factory.mktemp("bank") / "bank.npz"
    TextBank(WORDS, np.eye(4, dtype=np.float32), IDENTITY, logit_scale=10.0).save(path)
    return path


@pytest.fixture(scope="module")
def mapper_named(
    start_node: Callable[..., Any], probe: Probe, diagnostics: Inbox, bank: Path
) -> Iterator[Callable[..., Mapper]]:
    """mapper_named(name, **parameters): a map_node process, and the other end of its topics."""
    mappers = []

    def make(name: str, **parameters: str) -> Mapper:
        mappers.append(Mapper(probe, diagnostics, name))
        own = {"text": str(bank), "map_frame": mappers[-1].map_frame, "diagnostics_period": "0.1"}
        own |= {"min_observations": "1", "min_voxels": "10"}
        process = start_node("ov3d_perception.ros.map_node", name, own | {"publish_period": "0.2"} | parameters)
        mappers[-1].log = process.log
        return mappers[-1]

    yield make
    for mapper in mappers:
        mapper.close()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random network (``net.safetensors``) and a text bank of its encoder (``bank.npz``)."""
    import torch

    from ov3d_perception.language.vocabulary import TextBank
    from ov3d_perception.networks.checkpoint import CheckpointInfo, save_checkpoint
    from ov3d_perception.types import EncoderIdentity

    folder = tmp_path_factory.mktemp("model")
    identity = EncoderIdentity("tiny", "test", 8)
    generator = np.random.default_rng(1)
    words = ["car", "truck", "tree", "bush", "road", "building", "person"]
    TextBank(words, generator.normal(size=(len(words), 8)), identity, logit_scale=5.0).save(folder / "bank.npz")
    other = EncoderIdentity("other", "test", 8)
    TextBank(words, generator.normal(size=(len(words), 8)), other).save(folder / "other_bank.npz")
    torch.manual_seed(1)
    info = CheckpointInfo(
        arch="MinkUNet14A",
        width=0.125,
        inputs=("ones", "intensity"),
        voxel_size=0.2,
        identity=identity,
        vocabulary={"car": ["car", "truck"], "tree": ["tree", "bush"], "road": ["road"]},
    )
    save_checkpoint(folder / "net.safetensors", info.build(), info)
    return folder
