"""Checkpoint files: damage is seen, the previous one is used, and nothing good is lost."""

import os
import random
import warnings
from pathlib import Path

import pytest
import torch
from avalanche import checkpointing as avalanche
from avalanche.training.supervised import Naive
from interrupted import strategy_of

from avalanche_mas.training.checkpoint import maybe_load_checkpoint, save_checkpoint

NAME = "run.checkpoint"


def saved(path, *numbers):
    """Saves a strategy that says one number after the other."""
    strategy = strategy_of("MAS")
    for number in numbers:
        strategy.said = number
        save_checkpoint(strategy, path)
    return strategy


def said(path):
    """What the strategy says that is loaded from there, and the warnings that come with it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        strategy, _ = maybe_load_checkpoint(strategy_of("MAS"), path)
    return strategy.said, [str(w.message) for w in caught if "going on" in str(w.message)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / NAME


def test_without_a_checkpoint_the_strategy_is_as_it_was(path):
    strategy = strategy_of("MAS")
    before = dict(vars(strategy))
    assert maybe_load_checkpoint(strategy, path) == (strategy, 0)
    assert vars(strategy) == before


def test_the_last_two_are_kept_and_no_draft(path):
    saved(path, 1, 2, 3)
    names = [NAME, f"{NAME}.previous"]
    assert sorted(os.listdir(path.parent)) == names
    assert [said(path.with_name(name)) for name in names] == [(3, []), (2, [])]


def test_the_call_is_avalanches(path):
    """By keyword, with a string, with attributes left out; and Avalanche reads the file."""
    strategy = saved(path, 1)
    save_checkpoint(strategy=strategy, fname=str(path), exclude=["said"])
    loaded, start = maybe_load_checkpoint(
        strategy=strategy_of("MAS"), fname=str(path), map_location="cpu", unique_objects=[]
    )
    assert start == 0
    assert not hasattr(loaded, "said")
    assert strategy.said == 1
    assert isinstance(avalanche.maybe_load_checkpoint(strategy_of("MAS"), path)[0], Naive)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.99, -1])
def test_a_truncated_checkpoint_is_refused(path, kept):
    saved(path, 1)
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept < 0 else int(kept * len(content))])
    strategy = strategy_of("MAS")
    before, drawn = dict(vars(strategy)), torch.get_rng_state()
    with pytest.raises(ValueError, match=rf"{path} is damaged \(it is truncated.*or delete it to"):
        maybe_load_checkpoint(strategy, path)
    assert vars(strategy) == before
    assert torch.equal(torch.get_rng_state(), drawn)


def test_any_changed_bit_is_seen(path):
    saved(path, 1)
    content = path.read_bytes()
    rng = random.Random(0)
    for _ in range(100):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=f"{path} is damaged"):
            maybe_load_checkpoint(None, path)


@pytest.mark.parametrize("more", [b"x", b"\0" * 100])
def test_a_longer_file_is_refused(path, more):
    saved(path, 1)
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(ValueError, match="is damaged"):
        maybe_load_checkpoint(None, path)


def damage(path):
    path.write_bytes(path.read_bytes()[:-100])


def test_the_previous_one_takes_the_place_of_a_damaged_one(path):
    saved(path, 1, 2)
    damage(path)
    number, (warning,) = said(path)
    assert number == 1
    assert warning.startswith(f"{path} is damaged (it is truncated")
    assert warning.endswith(f": going on from {path}.previous instead")


def test_the_previous_one_takes_the_place_of_a_missing_one(path):
    saved(path, 1, 2)
    path.unlink()
    assert said(path) == (1, [f"{path} is missing: going on from {path}.previous instead"])


def test_both_damaged(path):
    saved(path, 1, 2)
    damage(path)
    damage(Path(f"{path}.previous"))
    with pytest.raises(ValueError, match=rf"{path} is .* and {path}.previous is .*delete it and"):
        maybe_load_checkpoint(strategy_of("MAS"), path)


def test_a_damaged_one_does_not_push_out_a_good_one(path):
    saved(path, 1, 2)
    damage(path)
    saved(path, 3)
    assert said(path) == (3, [])
    assert said(f"{path}.previous") == (1, [])


class Refuses:
    """Cannot be pickled."""

    def __reduce__(self):
        raise OSError("no space left on device")


def test_a_save_that_fails_leaves_what_was_there(path):
    strategy = saved(path, 1, 2)
    strategy.said = Refuses()
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(strategy, path)
    assert sorted(os.listdir(path.parent)) == [NAME, f"{NAME}.previous"]
    assert said(path) == (2, [])


def test_what_a_killed_save_has_left_is_overwritten(path):
    saved(path, 1)
    Path(f"{path}.draft").write_bytes(b"x" * 10_000_000)
    saved(path, 2)
    assert said(path) == (2, [])
    assert not Path(f"{path}.draft").exists()


def test_a_whole_file_that_is_no_checkpoint_of_a_strategy(path, monkeypatch):
    """A class that is gone: the previous one would not help either, so the error is told."""
    import interrupted

    saved(path, 1, 2)
    monkeypatch.delattr(interrupted, "Net")
    strategy = Naive(model=torch.nn.Linear(1, 1), optimizer=None)
    with pytest.raises(RuntimeError, match=rf"{path} is whole, but .*AttributeError.*Net.*classes"):
        maybe_load_checkpoint(strategy, path)


def test_the_folder_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no folder {tmp_path / 'no'} to save"):
        save_checkpoint(strategy_of("MAS"), tmp_path / "no" / "run.checkpoint")


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_colleagues_can_read_it(path):
    saved(path, 1)
    path.with_name("plain").touch()
    assert path.stat().st_mode == path.with_name("plain").stat().st_mode
