"""Releases of 6DS in their official formats, of a few pictures or made from the miniature."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from avalanche_mas.benchmarks.facts import read_csv_release

D = 4
FACTS = {
    1: "S,dog,,",
    2: "SP,dog,running,",
    3: "SPO,person,riding,horse",
    4: "SPO,person,riding,horse",
    5: "S,cat,,",
}
MASKS = {1: "1,0,0", 2: "1,1,0", 3: "1,1,1", 4: "1,1,1", 5: "1,0,0"}
HEADER = "image_links,NLP_links,SPO,id,w_s,w_p,w_o"


def write_csv_release(root, tasks=((1, 2), (3,), (4,), (5,))):
    """Five facts, of which two have the same words; two training pictures of each."""
    split = root / "splits" / "4tasks_random"
    split.mkdir(parents=True)
    (root / "NLP_feat").mkdir()
    for fact in MASKS:
        np.savetxt(root / "NLP_feat" / f"{fact}.txt", np.arange(3 * D) + 100.0 * fact)
    for task, facts in enumerate(tasks, start=1):
        (split / f"B{task}_facts.csv").write_text(
            "\n".join(["id,type,S,P,O", *(f"{fact},{FACTS[fact]}" for fact in facts)]) + "\n"
        )
        for stream, count in (("train", 2), ("test", 1)):
            (root / "images" / stream).mkdir(parents=True, exist_ok=True)
            lines = [HEADER]
            for fact in facts:
                for i in range(count):
                    link = f"{stream}/6DS_{stream}_{10 * fact + i:010d}.jpg"
                    Image.new("RGB", (9, 8), (50 * fact, 0, 0)).save(root / "images" / link)
                    lines.append(f"{link},{fact}.txt,any,{fact},{MASKS[fact]}")
            (split / f"B{task}_{stream}.csv").write_text("\n".join(lines) + "\n")
    return root


def edit(path, old, new):
    """Change a text file, which must have what is to be changed."""
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new, 1))


def write_mat_release(root, csv_root, **changes):
    """The same pictures and embeddings as of a CSV release, in MATLAB's format.

    As published, blocks of missing units are zero before the mean is subtracted.
    """
    release = read_csv_release(csv_root, features=True)
    d = release.features.shape[1] // 3
    masks = np.repeat([fact.masks for fact in release.facts], d, axis=1)
    raw = release.features.astype(np.float64) * masks
    mean = raw.mean(axis=0)
    shutil.copytree(csv_root / "images", root / "images")
    for name in ("train", "test"):
        images = release.images[name]
        struct = {
            "im_names": np.array(
                [str(image.path.relative_to(csv_root)) for image in images], dtype=object
            ),
            "tuple_ids": np.array([[image.fact + 1 for image in images]], dtype=float),
            "labels": np.zeros((1, len(images))),
            "im_ids": np.arange(len(images), dtype=float)[None],
            "unique_tuple_ids": np.arange(1.0, len(raw) + 1)[None],
            "unique_tuple_features": raw - mean,
            "unique_tuple_features_mean": mean[None],
        } | changes
        savemat(root / f"{name}_data.mat", {f"{name}_data": struct})
    return root
