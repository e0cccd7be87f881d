"""Where a miniature may be written, and what is left if that is interrupted."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

import avalanche_mas
from avalanche_mas.miniature import folder
from avalanche_mas.miniature.objects import miniature

SMALL = {"images_per_class": 2, "size": 16, "verbose": False}


def test_the_same_is_not_drawn_again(tmp_path):
    root = miniature(tmp_path / "root", **SMALL)
    file = root / "scenes-67/TrainImages.txt"
    before = file.stat().st_ino, file.stat().st_mtime_ns
    assert miniature(root, **SMALL) == root
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == before


def test_another_takes_its_place(tmp_path):
    root = miniature(tmp_path / "root", **SMALL)
    miniature(root, **SMALL | {"images_per_class": 3})
    lines = (root / "scenes-67/TrainImages.txt").read_text().splitlines()
    assert len(lines) == 6 * 3
    assert os.listdir(tmp_path) == ["root"]


def test_an_empty_folder_is_used(tmp_path):
    miniature(tmp_path, **SMALL)
    assert (tmp_path / "svhn/train_32x32.mat").exists()


def test_the_folder_one_is_in(tmp_path, monkeypatch):
    """The folder itself stays, so that programs that are in it do not lose it."""
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        assert miniature(".", **SMALL | {"seed": seed}).resolve() == tmp_path
        assert Path("svhn/train_32x32.mat").exists()


def test_interrupted_while_moving(tmp_path):
    """Folders of two miniatures are mixed: that is noticed, and it is drawn again."""
    root = miniature(tmp_path / "root", **SMALL)
    (root / "miniature.json").write_text("")
    (root / "svhn/test_32x32.mat").unlink()
    (root / ".draft-killed").mkdir()
    miniature(root, **SMALL)
    assert (root / "svhn/test_32x32.mat").exists()
    assert (root / "miniature.json").read_text()


def test_drafts_of_killed_processes_are_swept(tmp_path):
    """By the next one that draws; while nothing is drawn, nothing is written."""
    root = miniature(tmp_path / "root", **SMALL)
    (root / ".draft-killed" / "svhn").mkdir(parents=True)
    before = {path: path.stat().st_mtime_ns for path in root.iterdir()}
    miniature(root, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in root.iterdir()} == before
    miniature(root, **SMALL | {"seed": 1})
    assert not list(root.glob(".draft-*"))


def test_the_lock_lies_in_the_folder(tmp_path, monkeypatch):
    """Whatever path leads there, and whatever the temporary folder is; other users may take it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    root = miniature(tmp_path / "root", **SMALL)
    assert (root / ".lock").stat().st_mode & 0o666 == 0o666
    (tmp_path / "link").symlink_to(root)
    with ThreadPoolExecutor() as pool:
        with FileLock(tmp_path / "link" / ".lock"):
            other = pool.submit(miniature, root, **SMALL | {"seed": 1})
            with pytest.raises(FutureTimeoutError):
                other.result(timeout=0.3)
            assert miniature(tmp_path / "link", **SMALL) == tmp_path / "link"  # it is there
        assert other.result() == root


def test_a_miniature_that_may_only_be_read(tmp_path, monkeypatch):
    """Such as another user's."""
    root = miniature(tmp_path / "root", **SMALL)

    def refuse(*_, **__):
        raise PermissionError("not yours")

    monkeypatch.setattr(folder, "FileLock", refuse)
    assert miniature(root, **SMALL) == root


def test_two_at_once(tmp_path):
    """One draws, and the other waits and finds it done."""
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(miniature, tmp_path / "root", **SMALL) for _ in range(2)]
    assert [job.result() for job in jobs] == [tmp_path / "root"] * 2
    assert not list(tmp_path.glob("root/.draft-*"))
    assert (tmp_path / "root/svhn/test_32x32.mat").exists()


def test_other_contents_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(FileExistsError, match=r"not empty and has no miniature\.json.*new folder"):
        miniature(tmp_path, **SMALL)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_something_put_into_a_miniature_is_not_deleted(tmp_path):
    root = miniature(tmp_path / "root", **SMALL)
    (root / "results").mkdir()
    with pytest.raises(FileExistsError, match=r"results is not part of the miniature.*elsewhere"):
        miniature(root, **SMALL | {"seed": 1})
    assert (root / "results").is_dir()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "root").write_text("")
    with pytest.raises(FileExistsError, match="root is a file: give a folder"):
        miniature(tmp_path / "root", **SMALL)


@pytest.mark.parametrize(
    ("name", "value"), [("images_per_class", 1), ("size", 15), ("seed", -1)], ids=str
)
def test_arguments_out_of_range(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}: give"):
        miniature(tmp_path / "root", **SMALL | {name: value})
    assert not os.listdir(tmp_path)


def test_interrupted(tmp_path):
    """Control-C in the middle leaves neither half a miniature nor a draft."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "avalanche_mas.benchmarks.download",
        "miniature",
    ]
    process = subprocess.Popen(
        [*command, str(tmp_path / "root"), "--images-per-class", "2000"],
        cwd=Path(avalanche_mas.__file__).parent.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Shells let what they start in the background ignore it, and this would be inherited.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 900
        while not list(tmp_path.glob("root/.draft-*/flowers-102/jpg/*.jpg")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait() != 0
    finally:
        process.kill()
    assert os.listdir(tmp_path) == []
