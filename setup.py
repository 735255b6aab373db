"""One source tree, two installers: pip (ROS 2 from PyPI wheels) and colcon (ROS 2 from apt).

The metadata is here and not in pyproject.toml, because the setuptools of ROS 2 Humble (59) reads no [project] table.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "ov3d_perception"
SHARE = Path("share") / PACKAGE

RUNTIME = [
    "numpy>=1.22",
    "scipy>=1.8",
    "llvmlite>=0.45",
    "torch>=2.1",
    "torchvision",
    "open_clip_torch>=2.24",
    "safetensors",
    "scikit-learn>=1.3",
    "jaxtyping",
    "cattrs>=23.2",
    "rosbags>=0.10",
    "laspy>=2.5",
    "plyfile>=1.0",
    "pypcd4>=1.1",
    "opencv-python-headless>=4.8",
    "pillow",
    "PyYAML",
    "typer>=0.12",
    "tqdm",
]

# The wheels of ROS 2 Jazzy, with what building interface packages against them takes (they do not declare it all).
ROS_WHEELS = [
    "ros-jazzy-rclpy[fastrtps]",
    *(
        f"ros-jazzy-{name}"
        for name in (
            "std-msgs",
            "geometry-msgs",
            "sensor-msgs",
            "nav-msgs",
            "visualization-msgs",
            "diagnostic-msgs",
            "lifecycle-msgs",
            "rosgraph-msgs",
            "std-srvs",
            "ament-package",
            "ament-cmake",
            "ament-cmake-include-directories",
            "ament-cmake-gmock",
            "ament-cmake-gtest",
            "ament-cmake-pytest",
            "ament-cmake-ros",
            "python-cmake-module",
            "rosidl-core-generators",
            "rosidl-default-generators",
        )
    ),
    "catkin_pkg",
    "cmake",
    "ninja",
    "scikit-build-core>=0.10",
    "setuptools",
    "wheel",
]

EXTRAS = {
    "ros": ROS_WHEELS,
    "train": ["lightning>=2.2", "torchmetrics>=1.3", "tensorboard", "scikit-image>=0.22"],
    "sim": ["trimesh>=4", "embreex"],
    "viz": ["rerun-sdk>=0.20"],
    "odometry": ["kiss-icp>=1.2"],
    "dev": [
        "pytest>=8",
        "pytest-timeout",
        "pytest-xdist>=3.7",
        "hypothesis",
        "beartype",
        "ruff",
        "mypy",
        "types-PyYAML",
        "import-linter>=2",
        "pre-commit",
    ],
}
EXTRAS["all"] = sorted({requirement for group in EXTRAS.values() for requirement in group})
EXTRAS["colmap"] = ["pycolmap>=4"]  # not in all: it is large, and reads one format of posed images


def shared_files(*folders: str) -> list[tuple[str, list[str]]]:
    """setuptools' data_files for whole folder trees, laid out below share/ov3d_perception as they are here."""
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    parents = sorted({path.parent for path in files})
    return [(str(SHARE / parent), [str(path) for path in files if path.parent == parent]) for parent in parents]


def package_files() -> list[str]:
    """The package's own data: everything below it that is not Python (setuptools 59 knows no ``**``)."""
    files = (path for path in Path(PACKAGE).rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
    return sorted(str(path.relative_to(PACKAGE)) for path in files)


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Open-vocabulary 3D perception: CLIP distilled into a LiDAR network, live in ROS 2, asked in words",
    author="The ov3d_perception authors",
    maintainer="The ov3d_perception maintainers",
    maintainer_email="maintainers@ov3d-perception.invalid",
    license="Apache-2.0",
    python_requires=">=3.10",
    classifiers=[f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)],
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: package_files()},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (str(SHARE), ["package.xml"]),
        *shared_files("launch", "config", "models", "hook"),
    ],
    install_requires=RUNTIME,
    extras_require=EXTRAS,
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"cloud_filter_node = {PACKAGE}.ros.start:cloud_filter_node",
            f"learn_node = {PACKAGE}.ros.start:learn_node",
            f"lidar_node = {PACKAGE}.ros.start:lidar_node",
            f"map_node = {PACKAGE}.ros.start:map_node",
            f"ov3d = {PACKAGE}.cli:main",
        ],
    },
)
