#!/usr/bin/env bash
# @foxglove/velodyne-cloud 1.0.1 (npm), which Foxglove's viewers decode velodyne_msgs/VelodyneScan with. Of a VLP-16, two firings
# of 16 lasers in a block of 110.6 us, which turns by 0.2 degrees at 10 Hz and by 0.4 at 20 Hz:
# 1. All 32 points of a block have the azimuth of its FIRST one. It is corrected by the time of firing, but only to ask whether
#    it is between minAngle and maxAngle; the position is of the uncorrected one (so with the VLS-128). The second firing lies
#    upon the first; at 20 Hz points are 0.16 degrees behind on average, 6 cm at 20 m, all to one side, so that what is
#    calibrated by them, or laid over the points of another driver, is turned.
# 2. delta_ns: laser 15 is 86.4 us after laser 0 instead of 34.6, so that the next firing is before it.
# 3. Two returns of one firing (a dual-return packet has them in two blocks) are 110.6 us apart, a scan lasts twice as long.
# 4. `ring` is the laser's number in order of firing, 0 -15 degrees, 1 +1, 2 -13, not of elevation, as ROS's velodyne driver has it.
# Seen here, 20 Hz: azimuths of 32 lasers 0 degrees each, where the last one is at 0.325; laser 15 at 86.4, laser 16 at 55.3 us;
# strongest and last return of laser 0 at 0 and 110.6 us.
# Needs Node.js with npm. Exit status: 0 if this is still so, 1 if it changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
npm install --silent --no-audit --no-fund --prefix "$tmp" @foxglove/velodyne-cloud@1.0.1
cat > decode.mjs <<'JAVASCRIPT'
import velodyne from "@foxglove/velodyne-cloud";
const { Calibration, PointCloud, RawPacket, Transformer } = velodyne;
const BLOCK = 110.592, FIRING = 55.296, LASER = 2.304; // microseconds, VLP-16's manual
const STEP = 40; // hundredths of a degree per block at 20 Hz

function packet(dual) {
  const bytes = new DataView(new ArrayBuffer(1206));
  for (let block = 0; block < 12; block++) {
    bytes.setUint16(100 * block, 0xeeff, true);
    bytes.setUint16(100 * block + 2, STEP * (dual ? Math.floor(block / 2) : block), true);
    for (let laser = 0; laser < 32; laser++) {
      bytes.setUint16(100 * block + 4 + 3 * laser, dual && block % 2 === 0 ? 6000 : 5000, true); // 12 m and 10 m
      bytes.setUint8(100 * block + 6 + 3 * laser, 50);
    }
  }
  bytes.setUint8(1204, dual ? 0x39 : 0x37);
  bytes.setUint8(1205, 0x22);
  return new RawPacket(new Uint8Array(bytes.buffer));
}

function decode(raw) {
  const stamp = raw.timestamp();
  const cloud = new PointCloud({ stamp, maxPoints: RawPacket.MAX_POINTS_PER_PACKET });
  new Transformer(new Calibration(raw.inferModel())).unpack(raw, stamp, stamp, cloud);
  cloud.trim();
  const bytes = new DataView(cloud.data.buffer, cloud.data.byteOffset);
  const offset = Object.fromEntries(cloud.fields.map((field) => [field.name, field.offset]));
  return Array.from({ length: cloud.width * cloud.height }, (_, i) => {
    const at = (name) => i * cloud.point_step + offset[name];
    const [x, y, z] = ["x", "y", "z"].map((name) => bytes.getFloat32(at(name), true));
    return {
      azimuth: (Math.atan2(-y, x) * 180) / Math.PI,
      elevation: (Math.atan2(z, Math.hypot(x, y)) * 180) / Math.PI,
      time: bytes.getUint32(at("delta_ns"), true) / 1000,
      ring: bytes.getUint16(at("ring"), true),
    };
  });
}

const near = (a, b, tolerance) => Math.abs(a - b) < tolerance;
const points = decode(packet(false));
const dual = decode(packet(true));
const last = ((STEP / 100) * (FIRING + 15 * LASER)) / BLOCK;
const spread = Math.max(...points.slice(0, 32).map((one) => Math.abs(one.azimuth)));
const rings = points.slice(0, 16).map((one) => `${one.ring}: ${one.elevation.toFixed(0)}`);
console.log("@foxglove/velodyne-cloud 1.0.1", "largest azimuth of a block:", spread, "of", last.toFixed(3), "lasers 15, 16:",
  points[15].time, points[16].time, "two returns:", dual[0].time, dual[32].time, "rings:", rings.join(", "));
const same = points.length === 384 && spread < 1e-4 && near(last, 0.325, 0.001) && near(points[32].azimuth, 0.4, 1e-3)
  && near(points[15].time, 86.4, 0.1) && near(points[16].time, 55.3, 0.1) && near(dual[32].time - dual[0].time, BLOCK, 0.1)
  && rings.slice(0, 3).join() === "0: -15,1: 1,2: -13";
if (!same) {
  console.error("changed: points have the azimuth and the time of their own firing");
  process.exit(1);
}
JAVASCRIPT
node decode.mjs
