"""One tree, two installers: what pip and colcon each need is there, agrees, and lands where it is looked for."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest

import ov3d_perception

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "ov3d_perception"
INTERFACES = ("ov3d_msgs", "pip_ros/nav2_msgs", "pip_ros/tf2_msgs", "pip_ros/vision_msgs")
SOURCES = ("setup.py", "setup.cfg", "package.xml", "LICENSE", PACKAGE, "resource", "launch", "config", "models", "hook")
# What rosdep installs on a robot for these keys of package.xml, by the names of PyPI.
ROSDEP = {
    "python3-numpy": "numpy",
    "python3-opencv": "opencv-python-headless",
    "python3-pil": "pillow",
    "python3-scipy": "scipy",
    "python3-tqdm": "tqdm",
    "python3-yaml": "PyYAML",
}
# Type hashes as the apt packages report them (`ros2 topic info --verbose`) or as their generated code has them: equal
# hash, equal bytes on the wire.
DISTRO_TYPE_HASHES = {
    "nav2_msgs/msg/CostmapFilterInfo": "RIHS01_61ce391bf7690f76a331c01c9d5ce8ca71e6c99273b9fb75e48380f05c6dfdc8",
    "vision_msgs/msg/LabelInfo": "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    "vision_msgs/msg/VisionClass": "RIHS01_1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a",
}


def package_xml(folder: str) -> ElementTree.Element:
    return ElementTree.parse(ROOT / folder / "package.xml").getroot()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that plain ``pip install .`` would install, built from the files of the tree."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    source.mkdir()
    for name in SOURCES:
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", str(work / "dist")]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (path,) = (work / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def test_versions_agree() -> None:
    setup = (ROOT / "setup.py").read_text()
    versions = {
        re.search(r'version="(.+?)"', setup).group(1),
        ov3d_perception.__version__,
        package_xml(".").findtext("version"),
        package_xml("ov3d_msgs").findtext("version"),
    }
    assert versions == {ov3d_perception.__version__}


@pytest.mark.parametrize("folder", INTERFACES)
def test_interface_metadata_of_pip_and_colcon_agree(folder: str) -> None:
    toml = (ROOT / folder / "pyproject.toml").read_text()
    xml = package_xml(folder)
    assert re.search(r'^name = "(.+)"$', toml, re.M).group(1) == xml.findtext("name") == Path(folder).name
    assert re.search(r'^version = "(.+)"$', toml, re.M).group(1) == xml.findtext("version")
    assert "rosidl_interface_packages" in [group.text for group in xml.findall("member_of_group")]


@pytest.mark.parametrize("folder", INTERFACES)
def test_every_interface_file_is_generated(folder: str) -> None:
    files = {
        str(path.relative_to(ROOT / folder)) for path in (ROOT / folder).rglob("*") if path.suffix in (".msg", ".srv")
    }
    listed = set(re.findall(r'"((?:msg|srv)/\w+\.(?:msg|srv))"', (ROOT / folder / "CMakeLists.txt").read_text()))
    assert listed == files != set()


@pytest.mark.parametrize("folder", INTERFACES)
def test_every_field_is_commented(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.[ms][sr][gv]")):
        text = path.read_text()
        assert text.startswith("# "), f"{path.name} does not say what it is"
        for number, line in enumerate(text.splitlines(), 1):
            assert not line or line == "---" or "#" in line, f"{path.name}:{number}: {line}"


def test_only_the_distro_builds_stand_ins_under_colcon() -> None:
    for folder in INTERFACES:
        assert (ROOT / folder / "COLCON_IGNORE").exists() == folder.startswith("pip_ros/")


def test_package_xml_names_what_the_ros_room_imports() -> None:
    declared = {element.text for element in package_xml(".") if element.tag.endswith("depend")}
    sources = [*(ROOT / PACKAGE / "ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]
    pattern = re.compile(r"^\s*(?:from|import) (\w*(?:_msgs|_interfaces|_srvs|_py)|rclpy|tf2_ros|launch\w*)\b", re.M)
    imported = {name for path in sources for name in pattern.findall(path.read_text())}
    assert "rclpy" in imported
    assert imported <= declared


def test_metadata_stays_readable_for_old_setuptools() -> None:
    """Humble's setuptools (59) reads neither [project] nor ``**`` in package_data."""
    toml = (ROOT / "pyproject.toml").read_text()
    assert "[project]" not in [line.strip() for line in toml.splitlines()]
    assert "[build-system]" not in toml
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["install"]["install_scripts"] == config["develop"]["script_dir"] == f"$base/lib/{PACKAGE}"


def test_wheel_holds_every_module_and_data_file(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    files = [path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    missing = {str(path.relative_to(ROOT)) for path in files} - names
    assert not missing
    assert f"{PACKAGE}/py.typed" in names


def test_wheel_puts_shared_files_where_ros_and_paths_look(wheel: zipfile.ZipFile) -> None:
    data = f"{PACKAGE}-{ov3d_perception.__version__}.data/data/share"
    names = set(wheel.namelist())
    assert f"{data}/ament_index/resource_index/packages/{PACKAGE}" in names
    assert f"{data}/{PACKAGE}/package.xml" in names
    for folder in ("launch", "config", "models"):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert {f"{data}/{PACKAGE}/{path.relative_to(ROOT)}" for path in files} <= names


def commands(page: str, containing: str) -> list[str]:
    """The commands of the page's first code block that contains the text; without their comments."""
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    block = next(block for block in blocks if containing in block)
    return [line.split(" # ")[0].strip() for line in block.splitlines()]


def test_a_robot_gets_every_requirement_from_rosdep_or_pip(wheel: zipfile.ZipFile) -> None:
    """README's pip line installs what setup.py wants, in its versions, less what rosdep installs by package.xml."""
    packaging = pytest.importorskip("packaging.requirements")
    metadata = wheel.read(f"{PACKAGE}-{ov3d_perception.__version__}.dist-info/METADATA").decode()
    wanted = [packaging.Requirement(line) for line in re.findall(r"^Requires-Dist: (.+)$", metadata, re.M)]
    wanted = {requirement.name: requirement.specifier for requirement in wanted if not requirement.marker}
    from_rosdep = {ROSDEP[key.text] for key in package_xml(".").findall("exec_depend") if key.text in ROSDEP}
    assert "torch" in wanted and "numpy" in from_rosdep

    (pip,) = (line for line in commands("README.md", "colcon build") if line.startswith("pip install"))
    file = re.fullmatch(rf"pip install -r src/{PACKAGE}/(\S+)", pip).group(1)
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
    installed = {requirement.name: requirement for requirement in map(packaging.Requirement, lines)}
    bounds = {name: installed.pop(name).marker for name in ("numpy", "scipy")}  # for the NumPy 1 of older distributions
    assert all(not marker.evaluate({"python_version": "3.14"}) for marker in bounds.values())
    assert {name: requirement.specifier for name, requirement in installed.items()} == {
        name: specifier for name, specifier in wanted.items() if name not in from_rosdep
    }


def test_both_pages_install_a_robot_by_the_same_commands() -> None:
    readme = commands("README.md", "colcon build")
    assert readme[-2] == ". install/setup.bash" and readme[-1].startswith("ros2 launch")
    assert commands("docs/install.md", "colcon build")[:-1] == readme[:-1]


def test_colcon_puts_the_executables_where_ros_and_the_shell_look(tmp_path: Path) -> None:
    """After ``colcon build`` and ``. install/setup.sh`` alone: `ov3d` answers, by the Python that ran colcon."""
    pytest.importorskip("colcon_ros", reason="colcon is not installed (make oracle)")
    source = tmp_path / "src" / PACKAGE
    source.mkdir(parents=True)
    for name in (*SOURCES, "colcon.pkg"):
        (source / name).symlink_to(ROOT / name)
    build = [sys.executable, "-m", "colcon", "build", "--base-paths", str(source)]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AMENT_PREFIX_PATH")}
    result = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr

    prefix = tmp_path / "install" / PACKAGE
    executables = {path.name for path in (prefix / "lib" / PACKAGE).iterdir()}
    assert {"lidar_node", "map_node", "cloud_filter_node", "ov3d"} <= executables  # for ros2 run and the launch files
    shell = ["sh", "-c", ". install/setup.sh && command -v ov3d && ov3d bag record --help"]
    path = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    result = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, env=path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{prefix}/lib/{PACKAGE}/ov3d\n") and "Usage: ov3d bag record" in result.stdout
    assert (prefix / "lib" / PACKAGE / "ov3d").read_text().startswith(f"#!{sys.executable}\n")


def test_launch_files_start_no_python_of_their_own() -> None:
    """ros2 launch runs in the system's Python, which has no PyTorch: the installed executables start with ours."""
    for path in sorted((ROOT / "launch").glob("*.launch.py")):
        assert "sys.executable" not in path.read_text(), path.name


def test_wheel_scripts_are_entry_points_of_existing_functions(wheel: zipfile.ZipFile) -> None:
    (entry,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    config = configparser.ConfigParser()
    config.read_string(wheel.read(entry).decode())
    scripts = dict(config["console_scripts"])
    assert {"lidar_node", "map_node", "ov3d"} <= scripts.keys()
    for target in scripts.values():
        module, function = target.split(":")
        path = ROOT / module.replace(".", "/")
        source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        assert re.search(rf"^(def {function}\b|{function}\b.*=)", source, re.M), target


def test_constraints_pin_one_version_for_each_python() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [packaging.Requirement(line) for line in lines if line and not line.startswith("#")]
    for version in ("3.10.0", "3.11.0", "3.12.0", "3.13.0", "3.14.0"):
        environment = {
            "python_version": version.rpartition(".")[0],
            "python_full_version": version,
            "sys_platform": "linux",
            "platform_machine": "x86_64",
        }
        names = [pin.name for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
        assert len(names) == len(set(names)), f"two pins for one package under Python {version}"
        assert {"numpy", "torch", "ros-jazzy-rclpy"} <= set(names)
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in pins)


def test_stand_ins_have_the_type_hashes_of_the_distro() -> None:
    """A publisher of the pip installation and a subscriber of an apt one must agree that the types are the same.

    The oracles: recorded hashes for vision_msgs and nav2_msgs; for tf2_msgs the hash that rosbags computes from its own
    definition.
    """
    pytest.importorskip("rclpy")
    from rosbags.typesys import Stores, get_typestore

    tf = "tf2_msgs/msg/TFMessage"
    expected = {**DISTRO_TYPE_HASHES, tf: get_typestore(Stores.ROS2_JAZZY).hash_rihs01(tf)}
    code = """
import rclpy
from nav2_msgs.msg import CostmapFilterInfo
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import LabelInfo, VisionClass
rclpy.init()
node = rclpy.create_node("type_hashes")
for message in (CostmapFilterInfo, LabelInfo, VisionClass, TFMessage):
    publisher = node.create_publisher(message, message.__name__, 1)
    (info,) = node.get_publishers_info_by_topic(message.__name__)
    print(info.topic_type, getattr(info, "topic_type_hash", ""))
rclpy.shutdown()
"""
    environment = {**os.environ, "ROS_DOMAIN_ID": "97"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    hashes = dict(([*line.split(), ""])[:2] for line in result.stdout.splitlines())
    if not all(hashes.values()):
        pytest.skip("this ROS distribution (before Iron) has no type hashes")
    assert hashes == expected
