"""The PyTorch release: what is read from its tables, and what is wrong with those that are not."""

import re
import shutil

import numpy as np
import pytest
from fact_releases import D, edit, write_csv_release

from avalanche_mas.benchmarks.facts import Fact, read_csv_release


@pytest.fixture
def root(tmp_path):
    return write_csv_release(tmp_path / "mid_scale")


def split(root):
    return root / "splits" / "4tasks_random"


def test_facts_of_all_three_kinds(root):
    release = read_csv_release(root)
    riding = Fact("person", "riding", "horse")
    assert release.facts == (Fact("dog"), Fact("dog", "running"), riding, riding, Fact("cat"))
    masks = [(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 1, 1), (1, 0, 0)]
    assert [fact.masks for fact in release.facts] == masks
    assert [fact.kind for fact in release.facts] == ["S", "SP", "SPO", "SPO", "S"]
    assert str(release.facts[1]) == "<dog, running, *>"
    assert release.splits == {"random-4": ((0, 1), (2,), (3,), (4,))}
    assert release.numbers([riding]) == (2, 3)


def test_images_know_their_facts(root):
    images = read_csv_release(root).images
    assert [image.fact for image in images["train"]] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [image.fact for image in images["test"]] == [0, 1, 2, 3, 4]
    assert [image.path.name for image in images["test"]] == [
        f"6DS_test_{10 * fact:010d}.jpg" for fact in (1, 2, 3, 4, 5)
    ]
    assert all(image.path.is_file() for part in images.values() for image in part)


def test_published_embeddings_are_taken_as_they_are(root):
    assert read_csv_release(root).features is None
    features = read_csv_release(root, features=True).features
    expected = np.arange(3 * D) + 100.0 * np.array([[1], [2], [3], [4], [5]])
    np.testing.assert_array_equal(features, expected.astype(np.float32))


def test_oddities_of_the_release(root):
    """Pictures of another format than their links say, quotes, missing units as NaN, true masks."""
    path = root / "images" / "test" / "6DS_test_0000000010.jpg"
    path.rename(path.with_suffix(".png"))
    edit(
        split(root) / "B1_test.csv",
        "test/6DS_test_0000000020.jpg",
        "'test/6DS_test_0000000020.jpg'",
    )
    edit(split(root) / "B1_facts.csv", "dog,,", "dog,NaN,nan")
    edit(split(root) / "B1_test.csv", "1,0,0", "True,0.0,False")
    edit(split(root) / "B1_train.csv", "train/6DS", "images/train/6DS")  # as from the root
    release = read_csv_release(root)
    assert release.facts[0] == Fact("dog")
    assert release.images["test"][0].path == path.with_suffix(".png")
    assert release.images["test"][1].path.is_file()
    assert release.images["train"][0].path.is_file()


def test_account_names_both_expected_counts(root):
    account = read_csv_release(root).account()
    assert "5 found (2 <S>, 1 <SP>, 2 <SPO>), 186 expected" in account
    assert "15 found (10 for training, 5 for tests)" in account
    assert re.search(r"28,624 \(14,312 each\): -28,609 found", account)
    assert re.search(r"28,050 \(14,025 each\): -28,035 found", account)
    assert "1 facts repeat another's words" in account


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("B1_facts.csv", "id,type,S,P,O", "id,type,S,P", "no column O"),
        ("B1_train.csv", "id,w_s", "ident,w_s", "no column id"),
        ("B1_facts.csv", "1,S,dog", "one,S,dog", r"B1_facts.csv, line 2"),
        ("B1_facts.csv", "1,S,dog", "1,S,", r"line 2.*empty unit"),
        ("B2_facts.csv", "person,riding,horse", "person,,horse", r"line 2.*no predicate"),
        ("B1_train.csv", "any,1,1,0,0", "any,9,1,0,0", r"line 2: fact 9 is not in B1_facts"),
        ("B1_train.csv", "any,1,1,0,0", "any,1.5,1,0,0", r"line 2.*whole number"),
        ("B1_train.csv", "any,1,1,0,0", "any,1,1,1,0", r"line 2: the masks .* <dog, \*, \*>"),
        ("B1_train.csv", "any,1,1,0,0", "any,1,1,0,2", r"line 2: a mask is '2'"),
        ("B2_facts.csv", "3,SPO", "1,SPO", r"fact 1 is <person, riding, horse> here and <dog"),
        ("B1_train.csv", "any,1,1,0,0", "any,inf,1,0,0", r"line 2.*'inf' is not a whole number"),
        ("B1_train.csv", "any,1,1,0,0", "any,NaN,1,0,0", r"B1_train.csv, line 2"),
        ("B1_train.csv", "any,1,1,0,0", "any,1e400,1,0,0", r"line 2.*not a whole number"),
    ],
)
def test_malformed_tables(root, file, old, new, message):
    edit(split(root) / file, old, new)
    with pytest.raises(ValueError, match=message):
        read_csv_release(root)


def test_tables_with_a_byte_order_mark(root):
    expected = read_csv_release(root, features=True)
    for path in [*root.rglob("*.csv"), *root.rglob("*.txt")]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = read_csv_release(root, features=True)
    assert found.facts == expected.facts
    assert found.images == expected.images
    np.testing.assert_array_equal(found.features, expected.features)


def test_a_table_in_another_encoding(root):
    (split(root) / "B1_facts.csv").write_bytes("id,type,S,P,O\n1,S,café,,\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"B1_facts.csv is not a table"):
        read_csv_release(root)


def test_a_fact_in_two_tasks_is_learnt_twice(tmp_path):
    """As it was published; its pictures are there once."""
    root = write_csv_release(tmp_path / "r", tasks=((1, 2), (3,), (4,), (5, 1)))
    release = read_csv_release(root)
    assert release.splits["random-4"] == ((0, 1), (2,), (3,), (4, 0))
    assert len(release.images["train"]) == 10


def test_missing_parts(root):
    (root / "images" / "train" / "6DS_train_0000000010.jpg").unlink()
    (root / "images" / "train" / "6DS_train_0000000011.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 images are listed but not there.*0000000010"):
        read_csv_release(root)
    (split(root) / "B2_test.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"B2_test.csv is missing"):
        read_csv_release(root)
    (split(root) / "B4_facts.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"B4_facts.csv is missing"):
        read_csv_release(root)
    with pytest.raises(FileNotFoundError, match="mid_scale"):
        read_csv_release(root / "images")


def test_bad_embeddings(root):
    path = root / "NLP_feat" / "3.txt"
    np.savetxt(path, np.zeros(3 * D - 1))
    with pytest.raises(ValueError, match=r"3.txt has 11 numbers.*of 4"):
        read_csv_release(root, features=True)
    np.savetxt(path, np.zeros(3 * D + 3))
    with pytest.raises(ValueError, match="15 numbers"):
        read_csv_release(root, features=True)
    path.write_text("1.0 word")
    with pytest.raises(ValueError, match="not a list of numbers"):
        read_csv_release(root, features=True)
    for text, message in [
        ("nan " * 3 * D, "NaN or infinity"),
        ("1 " * (3 * D - 1) + "inf", "NaN or infinity"),
        (("1 " * 3 * D + "\n") * 2, r"table of \(2, 12\) numbers"),
        ("", "is empty"),
        (" \n", "is empty"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"3\.txt .*{message}"):
            read_csv_release(root, features=True)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"3\.txt is not a list of numbers"):
        read_csv_release(root, features=True)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"3.txt.*NLP_feat"):
        read_csv_release(root, features=True)


def test_splits_must_have_the_same_facts(root):
    other = shutil.copytree(split(root), root / "splits" / "4tasks_semantic")
    edit(other / "B4_facts.csv", "5,S,cat", "6,S,bird")
    edit(other / "B4_train.csv", ",any,5,", ",any,6,")
    with pytest.raises(
        ValueError, match=r"random: fact 6, <bird, \*, \*>, is in none of the tasks"
    ):
        read_csv_release(root)
