#!/usr/bin/env bash
# @loaders.gl/las 4.5.1 (npm; deck.gl's reader of LAS and LAZ in the browser), as it is unless told otherwise: LAS has colours of 16
# bits, and its LOWER bytes are taken (las.colorDepth is 8). What that looks like depends on who wrote the file: bytes that were
# multiplied by 257 are there twice, and right; multiplied by 256 they are black, and true 16 bits are noise. colorDepth "auto"
# is right with all of them, and with files that have 8 bits against the format. Coordinates are float32 (las.fp64 is
# false), so that points in UTM come to a raster of half a metre northwards and 3 cm eastwards. Its documentation lists both
# options; nothing is said where the numbers go.
# Seen here, files by laspy 2.7.0: 10, 100 and 200 times 257 are 10, 100, 200, times 256 they are 0, 0, 0, and with "auto" right;
# (500123.457, 5300123.457) is (500123.46875, 5300123.5), with fp64 right. LAS and LAZ alike.
# Needs Node.js with npm. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q "laspy[lazrs]==2.7.0" numpy==2.4.6
npm install --silent --no-audit --no-fund @loaders.gl/las@4.5.1 @loaders.gl/core@4.4.5
venv/bin/python - <<'PYTHON'
import laspy
import numpy as np

for times in (256, 257):
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.offsets, header.scales = [500000, 5300000, 0], [0.001] * 3
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = np.full(3, 500123.457), np.full(3, 5300123.457), np.arange(3.0)
    cloud.red = cloud.green = cloud.blue = np.array([10, 100, 200]) * times
    for kind in ("las", "laz"):
        cloud.write(f"{times}.{kind}")
PYTHON
cat > read.mjs <<'JAVASCRIPT'
import { readFileSync } from "fs";
import { parse } from "@loaders.gl/core";
import { LASLoader } from "@loaders.gl/las";

const read = async (name, las) => {
  const bytes = new Uint8Array(readFileSync(name));
  const { attributes } = await parse(bytes.buffer, LASLoader, { worker: false, core: { worker: false }, las });
  const red = Array.from(attributes.COLOR_0.value).filter((_, i) => i % 4 === 0).join();
  return `${red} at ${Array.from(attributes.POSITION.value.slice(0, 2)).join()}`;
};
const seen = {};
for (const kind of ["las", "laz"]) {
  seen[`${kind} 257`] = await read(`257.${kind}`, {});
  seen[`${kind} 256`] = await read(`256.${kind}`, {});
  seen[`${kind} 256 told`] = await read(`256.${kind}`, { colorDepth: "auto", fp64: true });
}
console.log("@loaders.gl/las 4.5.1", seen);
const place = "500123.46875,5300123.5";
const same = ["las", "laz"].every((kind) => seen[`${kind} 257`] === `10,100,200 at ${place}`
  && seen[`${kind} 256`] === `0,0,0 at ${place}` && seen[`${kind} 256 told`] === "10,100,200 at 500123.457,5300123.457");
if (!same) {
  console.error("changed: colours are those of the file, or coordinates are doubles");
  process.exit(1);
}
JAVASCRIPT
node read.mjs
