"""What agreement over time costs: processor time a scan beside an image's encoding, memory, bytes on disk.

    python benchmarks/consolidation.py config/train/openscene_semantickitti.yaml --scans 100

The source's frames, again and again until there are so many; the teacher's maps are made first, and not counted.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch

from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.lifting.consolidate import basis_of, consolidate
from ov3d_perception.lifting.frames import Counts, prepare_samples, read_frames
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.sources import FrameSubset, open_source, open_vocabulary
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.load import load_recipe


def peak() -> float:
    """Megabytes of memory this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--scans", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(options.recipe)
    spec = recipe.teacher
    encoder = load_encoder(spec.model, spec.pretrained, "auto", spec.precision)
    teacher = ImageTeacher(encoder, spec, cache_dir() / "teacher")
    vocabulary = open_vocabulary(recipe.vocabulary, encoder.identity) if recipe.vocabulary else None
    source = open_source(recipe.train)
    with tempfile.TemporaryDirectory() as folder:
        _, counts = prepare_samples(source, teacher, recipe.pairs, Path(folder), vocabulary)
        size = sum(path.stat().st_size for path in Path(folder).glob("0*.npz"))
        cloud = sum(len(frame.sweeps[0].scan) for _, frame in read_frames(source, Counts())) * 16
    basis = basis_of(source, teacher, recipe.pairs)
    again = FrameSubset(source, [number % len(source) for number in range(options.scans)])
    frames = list(again)[: len(source)]
    begin, before, points, voxels = time.process_time(), peak(), 0, 0
    stream = ((number, frames[number % len(frames)]) for number in range(options.scans))
    for number, _, said in consolidate(stream, teacher, recipe.pairs, basis, vocabulary):
        points, voxels = points + len(said.point), voxels + len(said.feature)
        if number == options.scans // 2:
            half = peak()
    spent = (time.process_time() - begin) / options.scans
    begin = time.process_time()
    teacher.encode(frames[0].views[0].image)
    encoding = time.process_time() - begin
    taught, ratio = size - cloud, spent / encoding
    print(f"{options.scans} scans: {spent:.3f} s of processor time each; an image takes {encoding:.2f} s ({ratio:.1%})")
    print(f"Memory: {before:.0f} MB before, {half:.0f} at half, {peak():.0f} at the end")
    print(
        f"{counts.used} samples take {taught / 1e6:.1f} MB besides their clouds; {voxels / points:.2f} voxels a point"
    )
    each = taught / (points / options.scans * counts.used)
    print(f"{each:.1f} bytes a point that is taught; its feature in float16 takes {2 * encoder.identity.dim}")


if __name__ == "__main__":
    main()
