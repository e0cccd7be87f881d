"""The MATLAB release."""

import numpy as np
import pytest
from fact_releases import write_csv_release, write_mat_release
from scipy.io import savemat

from avalanche_mas.benchmarks.fact_benchmark import fact_learning, read_release
from avalanche_mas.benchmarks.facts import read_csv_release, read_mat_release


@pytest.fixture
def csv_root(tmp_path):
    return write_csv_release(tmp_path / "mid_scale")


def test_same_facts_and_images_as_the_other_release(tmp_path, miniature):
    root = write_mat_release(tmp_path / "6DS_dataset", miniature)
    theirs, ours = read_csv_release(miniature, features=True), read_release(root)
    assert [fact.masks for fact in ours.facts] == [fact.masks for fact in theirs.facts]
    for name in ("train", "test"):
        assert [(image.path.relative_to(root), image.fact) for image in ours.images[name]] == [
            (image.path.relative_to(miniature), image.fact) for image in theirs.images[name]
        ]


def test_missing_units_are_minus_the_mean(tmp_path, csv_root):
    """Zero before the mean is subtracted, as published."""
    root = write_mat_release(tmp_path / "6DS_dataset", csv_root)
    release = read_mat_release(root)
    d = release.features.shape[1] // 3
    raw = np.stack([np.arange(3 * d) + 100.0 * fact for fact in (1, 2, 3, 4, 5)])
    raw[[0, 4], d:] = 0
    raw[1, 2 * d :] = 0
    np.testing.assert_allclose(release.features, raw - raw.mean(axis=0), rtol=1e-5)
    assert [str(fact) for fact in release.facts[:2]] == [
        "<subject 1, *, *>",
        "<subject 2, predicate 2, *>",
    ]


def test_each_file_has_its_own_mean(tmp_path, csv_root):
    """A fact that only test pictures show is put in relation to the training facts."""
    root = write_mat_release(tmp_path / "6DS_dataset", csv_root)
    before = read_mat_release(root)
    raw = np.arange(12.0)[None]
    struct = {
        "im_names": np.array(["images/test/6DS_test_0000000010.jpg"], dtype=object),
        "tuple_ids": 17.0,
        "unique_tuple_ids": 17.0,
        "unique_tuple_features": raw - 5.0,
        "unique_tuple_features_mean": np.full((1, 12), 5.0),
    }
    savemat(root / "test_data.mat", {"test_data": struct})
    after = read_mat_release(root)
    assert [image.fact for image in after.images["test"]] == [5]
    np.testing.assert_allclose(after.features[:5], before.features, rtol=1e-5)
    # the first fact has no object, so its block there is minus the training facts' mean
    np.testing.assert_allclose(
        after.features[5, 8:], raw[0, 8:] + before.features[0, 8:], rtol=1e-5
    )


def test_without_words(tmp_path, csv_root):
    root = write_mat_release(tmp_path / "6DS_dataset", csv_root)
    with pytest.raises(ValueError, match="no words to look up"):
        fact_learning(root, {"dog": np.zeros(3)}, "random-2")
    benchmark = fact_learning(root, split="random-2", seed=1, size=8)
    assert benchmark.targets.shape == (5, 15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuple_ids": np.ones((1, 3))}, "im_names but 3 tuple_ids"),
        ({"unique_tuple_ids": np.arange(2.0, 7)[None]}, "tuple 1 of an image"),
        ({"unique_tuple_features": np.zeros((5, 11))}, r"\(5, 11\).*expected \(5, 12\)"),
        ({"unique_tuple_features_mean": np.zeros((1, 11))}, "expected"),
        ({"tuple_ids": np.full((1, 10), np.nan)}, "tuple_ids has NaN or infinity"),
        ({"tuple_ids": np.full((1, 10), 1.5)}, "tuple_ids must be a list of whole numbers"),
        ({"tuple_ids": np.ones((2, 5))}, "tuple_ids must be a list of whole numbers"),
        ({"tuple_ids": np.zeros((1, 0))}, "tuple_ids is empty"),
        ({"tuple_ids": np.array(["a", "b"], object)}, "tuple_ids holds something else than num"),
        ({"unique_tuple_ids": np.array([[1, 2, 3, 4, np.inf]])}, "unique_tuple_ids has NaN"),
        ({"unique_tuple_features": np.full((5, 12), np.nan)}, "unique_tuple_features has NaN"),
        ({"unique_tuple_features": "text"}, "unique_tuple_features holds something else"),
        ({"unique_tuple_features_mean": np.full((1, 12), np.inf)}, "_mean has NaN or infinity"),
    ],
)
def test_contradictions(tmp_path, csv_root, changes, message):
    root = write_mat_release(tmp_path / "6DS_dataset", csv_root, **changes)
    with pytest.raises(ValueError, match=message):
        read_mat_release(root)


def test_other_files(tmp_path, csv_root):
    root = write_mat_release(tmp_path / "6DS_dataset", csv_root)
    savemat(root / "test_data.mat", {"data": np.zeros(3)})
    with pytest.raises(ValueError, match="no struct test_data; it has data"):
        read_mat_release(root)
    savemat(root / "test_data.mat", {"test_data": {"im_names": np.zeros(3)}})
    with pytest.raises(ValueError, match="no field tuple_ids"):
        read_mat_release(root)
    (root / "test_data.mat").write_bytes(b"MATLAB 7.3".ljust(124) + b"\x00\x02IM" + b"x" * 100)
    with pytest.raises(ValueError, match=r"7\.3.*-v7"):
        read_mat_release(root)
    (root / "test_data.mat").write_text("nothing")
    with pytest.raises(ValueError, match="not a MATLAB file"):
        read_mat_release(root)
    (root / "test_data.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_data\.mat"):
        read_mat_release(root)
