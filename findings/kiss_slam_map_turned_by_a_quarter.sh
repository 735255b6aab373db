#!/usr/bin/env bash
# kiss-slam 0.0.2, the map for navigation that its occupancy mapper writes (map2d/map.png and map.yaml, in the form of
# Nav2's and ROS's map server): it is turned by a quarter. For the map server the rows of an image are y, the largest first;
# here they are x, the smallest first, and the columns are y. `origin` is that of a map the right way round. So the world is
# turned by -90 degrees (x becomes -y) and, unless it is square, moved; walls are straight, rooms are rooms, and the image
# looks right until the robot is localised in it with poses of the same run.
# Seen here: a street along x from -5 to 20 m between walls at y = -3.2 and 3.2 m. What map.yaml says of the occupied pixels,
# as the map server reads it: x from -4.75 to 1.75 m, y from -3.25 to 21.25 m. Turned back, y = 3.2 m and x to 20 m.
# Needs the system's libGL; libusb-1.0, which Open3D's wheel lacks too, comes from libusb-package.
# Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
pip=("$tmp/venv/bin/pip" install -q)
"${pip[@]}" open3d-cpu==0.20.0 libusb-package==1.0.30.0 kiss-icp==1.3.0 map-closures==2.2.0 numpy==2.2.6
"${pip[@]}" pillow==12.0.0 pyyaml==6.0.3 pydantic-settings==2.11.0 tqdm==4.67.1
"${pip[@]}" --no-deps kiss-slam==0.0.2  # its requirements name the Open3D with CUDA
ln -s "$tmp"/venv/lib/python3*/site-packages/libusb_package/libusb-1.0.so "$tmp/libusb-1.0.so.0"
export LD_LIBRARY_PATH="$tmp${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
"$tmp/venv/bin/python" - "$tmp" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import yaml
from kiss_slam.config import OccupancyMapperConfig
from kiss_slam.occupancy_mapper import OccupancyGridMapper
from PIL import Image

folder = Path(sys.argv[1])
along = np.arange(-5, 20, 0.1)
walls = [np.column_stack([along, np.full_like(along, y), np.full_like(along, z)]) for y in (-3.2, 3.2) for z in (0.2, 0.6)]
mapper = OccupancyGridMapper(OccupancyMapperConfig(resolution=0.5, max_range=100.0, z_min=-1.0, z_max=2.0))
for _ in range(5):
    mapper.integrate_frame(np.concatenate(walls), np.eye(4))
mapper.compute_3d_occupancy_information()
mapper.compute_2d_occupancy_information()
mapper.write_2d_occupancy_grid(str(folder))

said = yaml.safe_load((folder / "map.yaml").read_text())
image = np.asarray(Image.open(folder / said["image"]), float)
row, column = np.nonzero((255 - image) / 255 > said["occupied_thresh"])  # negate: 0, dark is occupied
x = said["origin"][0] + (column + 0.5) * said["resolution"]
y = said["origin"][1] + (len(image) - 1 - row + 0.5) * said["resolution"]  # the last row is the lowest y
spans = (x.min(), x.max()), (y.min(), y.max())
print("kiss-slam", version("kiss-slam"), "image", image.shape, said["origin"], "walls at x, y:", np.round(spans, 2).tolist())
turned = np.ptp(x) < 10 < 20 < np.ptp(y)  # the walls are 25 m long in x and 6.4 m apart in y
back = said["origin"][0] + (row + 0.5) * said["resolution"], said["origin"][1] + (column + 0.5) * said["resolution"]
right = np.allclose((back[0].min(), back[0].max()), (-5, 20), atol=0.5)
right = right and np.allclose(np.unique(np.round(np.abs(back[1]), 2)), 3.25)
sys.exit(0 if turned and right else "changed: the map's image is not turned by a quarter")
PYTHON
