#!/usr/bin/env bash
# three.js 0.187.0 (npm), PLYLoader: "property uchar red" comes as other numbers than the file has. Colours are taken for sRGB
# and made linear, as three.js does everywhere, but here they are put into BYTES again, so that the dark ones fall together:
# 0 to 6 are 0, 7 to 17 are 1, and 183 of 256 values are left. A cloud coloured by class, as segmentations are stored
# and looked at, cannot be asked for its classes by geometry.attributes.color, with and without the way back to sRGB; a grey
# intensity loses its steps in the dark. PCDLoader has floats there, which are exact.
# PLYExporter writes what was read as "property float red", from 0 to 1, in place of the file's uchar.
# Seen here: 5, 10, 20, 128, 255 are 0, 1, 2, 55, 255, and after the way back to sRGB 0, 13, 22, 128, 255; from PCD 5, 10, 20,
# 128, 255.
# Needs Node.js with npm. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
npm install --silent --no-audit --no-fund --prefix "$tmp" three@0.187.0
cat > read.mjs <<'JAVASCRIPT'
import { Color, Points, SRGBColorSpace } from "three";
import { PLYExporter } from "three/examples/jsm/exporters/PLYExporter.js";
import { PCDLoader } from "three/examples/jsm/loaders/PCDLoader.js";
import { PLYLoader } from "three/examples/jsm/loaders/PLYLoader.js";

const levels = Array.from({ length: 256 }, (_, i) => i);
const some = [5, 10, 20, 128, 255];
const properties = ["float x", "float y", "float z", "uchar red", "uchar green", "uchar blue"];
const ply = ["ply", "format ascii 1.0", "element vertex 256", ...properties.map((one) => `property ${one}`), "end_header",
  ...levels.map((i) => `${i} 0 0 ${i} ${i} ${i}`), ""].join("\n");
const pcd = ["VERSION 0.7", "FIELDS x y z rgb", "SIZE 4 4 4 4", "TYPE F F F U", "COUNT 1 1 1 1", "WIDTH 256", "HEIGHT 1",
  "VIEWPOINT 0 0 0 1 0 0 0", "POINTS 256", "DATA ascii", ...levels.map((i) => `${i} 0 0 ${i * 0x010101}`), ""].join("\n");

// The reds as bytes of sRGB.
const srgb = (colours) => levels.map((i) => {
  const { r, g, b } = new Color().fromBufferAttribute(colours, i);
  return Math.round(new Color(r, g, b).getRGB({}, SRGBColorSpace).r * 255);
});
const geometry = new PLYLoader().parse(ply);
const colours = geometry.attributes.color;
const bytes = levels.map((i) => colours.array[3 * i]);
const back = srgb(colours);
const exact = srgb(new PCDLoader().parse(new TextEncoder().encode(pcd).buffer).geometry.attributes.color);
const exported = new PLYExporter().parse(new Points(geometry), null, { binary: false });
const pick = (numbers) => some.map((i) => numbers[i]).join();
console.log("three 0.187.0", colours.array.constructor.name, "different:", new Set(bytes).size, "bytes:", pick(bytes), "in sRGB:",
  pick(back), "from PCD:", pick(exact), "exported as:", exported.match(/property (\w+) red/)[1]);
const same = colours.array instanceof Uint8Array && new Set(bytes).size === 183 && pick(bytes) === "0,1,2,55,255"
  && pick(back) === "0,13,22,128,255" && exact.join() === levels.join() && exported.includes("property float red");
if (!same) {
  console.error("changed: colours are those of the file, or are exact in linear light");
  process.exit(1);
}
JAVASCRIPT
node read.mjs
