"""Pictures become RGB of 8 bits, whatever they hold."""

import numpy as np
import pytest
from PIL import Image

from avalanche_mas.benchmarks.pictures import read_picture

GREYS = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (GREYS.astype(np.uint8), "png"),
        ((GREYS * 257).astype(np.uint16), "png"),
        ((GREYS * 257).astype(np.uint16), "tiff"),
        ((GREYS * 257).astype(">u2"), "tiff"),
        ((GREYS * 257).astype(np.int32), "tiff"),
        ((GREYS / 255).astype(np.float32), "tiff"),
        (GREYS.astype(np.uint8)[..., None].repeat(3, -1), "png"),
    ],
)
def test_greys_keep_their_brightness(tmp_path, values, kind):
    Image.fromarray(values).save(tmp_path / "grey", kind)
    seen = read_picture(tmp_path / "grey")
    assert seen.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(seen), np.stack([GREYS] * 3, -1))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (GREYS.astype(np.float32), "go from 0 to 255 instead of 0 to 1:"),
        (np.full((4, 4), np.nan, np.float32), "go from nan to nan"),
        (np.full((4, 4), 70_000, np.int32), "70000 instead of 0 to 65535: save it with 8 bits"),
        (np.full((4, 4), -1, np.int32), "go from -1"),
    ],
)
def test_greys_of_an_unknown_range(tmp_path, values, words):
    Image.fromarray(values).save(tmp_path / "grey.tiff")
    with pytest.raises(ValueError, match=rf"grey\.tiff cannot be read as an image .*{words}"):
        read_picture(tmp_path / "grey.tiff")
