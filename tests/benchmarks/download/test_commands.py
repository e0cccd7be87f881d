"""``python -m avalanche_mas.benchmarks.download``: from an empty folder to checked data."""

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serving import Server
from typer.testing import CliRunner

import avalanche_mas
from avalanche_mas.benchmarks import datasets
from avalanche_mas.benchmarks.datasets import DATASETS
from avalanche_mas.benchmarks.download import cli
from avalanche_mas.miniature.objects import miniature


def run(*words):
    """Run a command; lines of tables are not wrapped."""
    return CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, [str(word) for word in words])


def table(drawn, url):
    """The table of datasets as if the drawn archives were the official ones."""

    def local(info):
        files = [
            dataclasses.replace(
                file,
                url=f"{url}{file.name}",
                sha256=hashlib.sha256((drawn / "archives" / file.name).read_bytes()).hexdigest(),
                size=(drawn / "archives" / file.name).stat().st_size,
                alive=True,
                mirror="a friend",
            )
            for file in info.files
        ]
        local = type(info.__name__, (info,), {"files": tuple(files)})
        local.sizes = {split: len(local(drawn, split)) for split in info.sizes}
        local.n_classes = len(local(drawn).classes)
        return local

    return {key: local(info) for key, info in DATASETS.items()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A small miniature and its archives; tests must not change it."""
    root = tmp_path_factory.mktemp("drawn") / "root"
    return miniature(root, images_per_class=2, size=16, archives=True, verbose=False)


@pytest.fixture
def served(drawn, monkeypatch):
    """A server of the drawn archives, which the commands take for the official ones."""
    monkeypatch.setattr(cli.console, "width", 200)
    with Server(drawn / "archives") as server:
        monkeypatch.setattr(datasets, "DATASETS", table(drawn, server.url))
        yield server


def kill(monkeypatch, key, at):
    """Let the address of one file be dead."""
    info = datasets.DATASETS[key]
    files = list(info.files)
    files[at] = dataclasses.replace(files[at], alive=False)
    changed = type(info.__name__, (info,), {"files": tuple(files)})
    monkeypatch.setattr(datasets, "DATASETS", datasets.DATASETS | {key: changed})


@pytest.fixture
def root(served, tmp_path):
    """A folder into which all has been downloaded."""
    got = run("download", tmp_path / "root")
    assert got.exit_code == 0, got.output
    return tmp_path / "root"


def test_download_all(served, root, drawn):
    """What comes out is what was drawn; a second call makes no request."""
    for info in DATASETS.values():
        for file in info.files:
            here, there = root / file.gives, drawn / file.gives
            same = ["diff", "-rq", str(here), str(there)]
            assert subprocess.run(same, capture_output=True).stdout == b""
    served.requests.clear()
    again = run("download", root)
    assert again.exit_code == 0
    assert "All is there." in again.output
    assert served.requests == []
    for command in ("status", "verify"):
        assert run(command, root).exit_code == 0
    assert run("status", root).output.count("complete") == 8
    assert run("verify", root).output.count("good") == 9


def test_a_dead_address_does_not_stop_the_others(served, tmp_path, monkeypatch):
    """It ends with an error that says where to get the file and where to put it."""
    kill(monkeypatch, "flowers", 0)
    got = run("download", tmp_path / "root", "--only", "flowers", "--only", "svhn")
    assert got.exit_code == 1
    for words in ("102flowers.tgz", "is dead", "a friend", str(tmp_path / "root/flowers-102")):
        assert words in got.output
    assert (tmp_path / "root/svhn/test_32x32.mat").exists()
    assert (tmp_path / "root/flowers-102/setid.mat").exists()
    assert [name for name, _ in served.requests if "flowers" in name] == []
    assert sorted(os.listdir(tmp_path / "root")) == ["flowers-102", "svhn"]


def test_a_file_from_elsewhere_is_used(served, drawn, tmp_path, monkeypatch):
    kill(monkeypatch, "birds", 0)
    (tmp_path / "root").mkdir()
    shutil.copy(drawn / "archives/CUB_200_2011.tgz", tmp_path / "root")
    assert run("download", tmp_path / "root", "--only", "birds").exit_code == 0
    assert len(DATASETS["birds"](tmp_path / "root")) == 2 * 8


def test_a_wrong_file_from_elsewhere_is_kept_aside(served, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/CUB_200_2011.tgz").write_text("half of it")
    got = run("download", tmp_path / "root", "--only", "birds")
    assert got.exit_code == 0
    assert "is not the official file: kept as CUB_200_2011.tgz.wrong" in got.output
    assert (tmp_path / "root/CUB_200_2011.tgz.wrong").read_text() == "half of it"


def test_status_of_nothing(tmp_path):
    """The official table: every file, with its address and the folder to put it in."""
    got = run("status", tmp_path / "root")
    assert got.exit_code == 1
    assert f"{tmp_path / 'root'} does not exist" in got.output
    assert got.output.count("missing") == 8
    for info in DATASETS.values():
        for file in info.files:
            assert f"- {file.where_to_get(str(tmp_path / 'root'))}\n" in got.output
    assert not (tmp_path / "root").exists()


def test_status_of_a_file(tmp_path):
    (tmp_path / "root").write_text("")
    got = run("status", tmp_path / "root")
    assert got.exit_code == 1
    assert "is no folder" in got.output


def test_status_of_a_miniature(drawn):
    assert run("status", drawn).output.count("miniature") == 8
    assert run("verify", drawn).exit_code == 0


def test_status_of_half_a_dataset(served, root):
    (root / "flowers-102/setid.mat").unlink()
    truncate(root / "svhn/train_32x32.mat")
    shown = run("status", root).output
    assert "incomplete" in shown
    assert "damaged" in shown
    assert "svhn/train_32x32.mat has no" in shown
    assert f"put it in {root}/flowers-102" in shown


def truncate(path):
    path.write_bytes(path.read_bytes()[:300])


DAMAGES = {
    "archive": ("flowers-102/102flowers.tgz", truncate, "has 300 bytes instead of"),
    "image": (
        "CUB_200_2011/images/002.American_Goldfinch/*_0000_*.jpg",
        truncate,
        "cannot be read",
    ),
    "absent image": ("fgvc-aircraft-2013b/data/images/*.jpg", Path.unlink, "is not there"),
    "matlab": ("svhn/train_32x32.mat", truncate, "has 300 bytes instead of"),
    "xml": ("VOCdevkit/VOC2012/Annotations/*.xml", truncate, "is not valid XML"),
    "list": ("scenes-67/TestImages.txt", Path.unlink, "missing"),
    "fewer": ("scenes-67/TestImages.txt", lambda p: p.write_text("library/x.jpg"), "has 13 bytes"),
}


@pytest.mark.parametrize(("pattern", "damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_verify_finds(served, root, pattern, damage, said):
    """One damaged file: verify fails and names it, and the other datasets are good."""
    file = next(iter(root.glob(pattern)))
    damage(file)
    got = run("verify", root)
    assert got.exit_code == 1
    assert file.name in got.output
    assert said in got.output
    assert got.output.count(": good") == 7


def test_verify_counts(served, root):
    """A list that was shortened, beside an archive that is right."""
    labels = root / "CUB_200_2011/train_test_split.txt"
    text = labels.read_text().replace("1 1\n", "1 0\n", 1)
    labels.write_text(text)
    got = run("verify", root, "--only", "birds")
    assert got.exit_code == 1
    assert "has 15 train samples instead of 16" in got.output


def test_unknown_dataset(tmp_path):
    got = run("status", tmp_path, "--only", "cats")
    assert got.exit_code == 2
    assert "there is no dataset cats" in got.output


def test_miniature_into_a_used_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    got = run("miniature", tmp_path)
    assert got.exit_code == 1
    assert "is not empty" in got.output
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_the_commands_load_no_large_library():
    """Help has to come within a second; PyTorch alone takes longer."""
    code = (
        "import sys; from avalanche_mas.benchmarks.download import cli\n"
        "from typer.testing import CliRunner\n"
        "for words in ([], ['status'], ['download'], ['verify'], ['miniature']):\n"
        "    assert CliRunner().invoke(cli.app, [*words, '--help']).exit_code == 0\n"
        "print(sorted(sys.modules.keys() & {'avalanche', 'matplotlib', 'numpy', 'torch'}))"
    )
    home = str(Path(avalanche_mas.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": home}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_as_a_program(tmp_path):
    """The whole way, as users start it."""
    words = ["miniature", "root", "--images-per-class", "2", "--size", "16", "--seed", "3"]
    command = [sys.executable, "-W", "ignore", "-m", "avalanche_mas.benchmarks.download"]
    home = str(Path(avalanche_mas.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": home}
    drawn = subprocess.run([*command, *words], cwd=tmp_path, env=environment, capture_output=True)
    assert drawn.returncode == 0
    assert drawn.stdout == b"The miniature is in root\n"
    assert os.listdir(tmp_path) == ["root"]
