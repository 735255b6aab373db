#!/usr/bin/env bash
# @loaders.gl/pcd 4.4.2 (npm; deck.gl's reader of point clouds in the browser) and PCD files as PCL writes them:
# 1. Red and blue are swapped, from binary and from text: PCL keeps 0x00RRGGBB, which is B, G, R in memory. From
#    binary_compressed every colour is black: numbers from 0 to 1 are put into bytes.
# 2. A cloud with `label` has the labels for its colours, whatever rgb is: COLOR_0 is said to have three numbers a point, and
#    has one.
# 3. A cloud of doubles has the lower halves of its numbers for coordinates: all points at the origin, or near it.
# 4. A cloud with `intensity` has an empty COLOR_0, and the intensity is dropped.
# Nothing is raised. three.js 0.187.0 reads all of them right.
# Seen here: (250, 2, 1) is (1, 2, 250) from binary and text, (0, 0, 0) from binary_compressed; labels 7 and 31 are the
# colours 7, 31; (1.5, 2, 3) in doubles is (0, 0, 0).
# Needs Node.js with npm. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
npm install --silent --no-audit --no-fund --prefix "$tmp" @loaders.gl/core@4.4.5 @loaders.gl/pcd@4.4.2 three@0.187.0
cat > read.mjs <<'JAVASCRIPT'
import { parse } from "@loaders.gl/core";
import { PCDLoader } from "@loaders.gl/pcd";
import { PCDLoader as ThreeLoader } from "three/examples/jsm/loaders/PCDLoader.js";

const RGB = (250 << 16) | (2 << 8) | 1;
const POINT = { x: 1.5, y: 2, z: 3, intensity: 0.25, rgb: RGB };
const LABELS = [7, 31];

// Two equal points; what is not text is little-endian, as PCL writes it.
function file(names, data, size = 4) {
  const rows = new DataView(new ArrayBuffer(2 * size * names.length));
  const columns = new DataView(new ArrayBuffer(rows.byteLength));
  const lines = [];
  for (let point = 0; point < 2; point++) {
    const line = [];
    names.forEach((name, column) => {
      const number = name === "label" ? LABELS[point] : POINT[name];
      for (const [bytes, at] of [[rows, size * (point * names.length + column)], [columns, size * (2 * column + point)]]) {
        if (size === 8) bytes.setFloat64(at, number, true);
        else if (name === "rgb" || name === "label") bytes.setUint32(at, number, true);
        else bytes.setFloat32(at, number, true);
      }
      line.push(name === "rgb" ? new Float32Array(Uint32Array.of(number).buffer)[0] : number);
    });
    lines.push(line.join(" "));
  }
  const body = { ascii: () => new TextEncoder().encode(lines.join("\n") + "\n"), binary: () => new Uint8Array(rows.buffer),
    binary_compressed: () => stored(new Uint8Array(columns.buffer)) }[data]();
  const each = (value) => names.map(value).join(" ");
  const header = new TextEncoder().encode(`VERSION 0.7\nFIELDS ${each((name) => name)}\nSIZE ${each(() => size)}
TYPE ${each((name) => (name === "label" ? "U" : "F"))}\nCOUNT ${each(() => 1)}\nWIDTH 2\nHEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2\nDATA ${data}\n`);
  return Uint8Array.from([...header, ...body]).buffer;
}

// LZF with literal runs only, after both lengths.
function stored(bytes) {
  const runs = [];
  for (let i = 0; i < bytes.length; i += 32) {
    const run = bytes.slice(i, i + 32);
    runs.push(run.length - 1, ...run);
  }
  return Uint8Array.from([...new Uint8Array(Uint32Array.of(runs.length, bytes.length).buffer), ...runs]);
}

const read = async (content) => (await parse(content.slice(0), PCDLoader, { worker: false })).attributes;
const xyz = ["x", "y", "z"];
const colours = {};
for (const data of ["binary", "ascii", "binary_compressed"])
  colours[data] = [...(await read(file([...xyz, "rgb"], data))).COLOR_0.value].slice(0, 3).join();
const labels = (await read(file([...xyz, "rgb", "label"], "binary"))).COLOR_0;
const doubles = [...(await read(file(xyz, "binary", 8))).POSITION.value].slice(0, 3).join();
const intensity = (await read(file([...xyz, "intensity"], "binary"))).COLOR_0.value.length;
const three = (content) => new ThreeLoader().parse(content.slice(0)).geometry.attributes;
const [red, , blue] = three(file([...xyz, "rgb"], "binary")).color.array;
const right = red > 0.9 && blue < 0.01 && three(file(xyz, "binary", 8)).position.array[0] === 1.5
  && three(file([...xyz, "intensity"], "binary")).intensity.array[0] === 0.25;
console.log("@loaders.gl/pcd 4.4.2", "colours:", colours, "with labels:", labels.size, [...labels.value].join(), "doubles:", doubles,
  "colours beside intensity:", intensity, "three.js right:", right);
const same = colours.binary === "1,2,250" && colours.ascii === "1,2,250" && colours.binary_compressed === "0,0,0"
  && labels.size === 3 && [...labels.value].join() === "7,31" && doubles === "0,0,0" && intensity === 0 && right;
if (!same) {
  console.error("changed: colours, labels and doubles are those of the file");
  process.exit(1);
}
JAVASCRIPT
node read.mjs
