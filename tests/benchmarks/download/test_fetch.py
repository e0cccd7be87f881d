"""Downloads from a real server: they resume, and only the right file is kept."""

import hashlib
import os
import random

import pytest
from serving import Server

from avalanche_mas.benchmarks.datasets import DATASETS, OfficialFile
from avalanche_mas.benchmarks.download import fetch as module
from avalanche_mas.benchmarks.download.checksum import what_is_wrong
from avalanche_mas.benchmarks.download.fetch import DownloadError, addresses, fetch

CONTENT = random.Random(0).randbytes(400_000)
RIGHT = {"sha256": hashlib.sha256(CONTENT).hexdigest()}


@pytest.fixture
def pauses(monkeypatch):
    """How long it would have waited each time."""
    waited = []
    monkeypatch.setattr(module.time, "sleep", waited.append)
    return waited


@pytest.fixture(autouse=True)
def _at_once(pauses):
    """Nothing here waits."""


@pytest.fixture
def server(tmp_path):
    """Serves ``tmp_path / "served"``."""
    (tmp_path / "served").mkdir()
    with Server(tmp_path / "served") as running:
        yield running


@pytest.fixture
def official(server):
    """A file that is on the server."""
    (server.folder / "birds.tgz").write_bytes(CONTENT)
    return OfficialFile(f"{server.url}birds.tgz", "birds", **RIGHT)


def changed(file, **changes):
    return OfficialFile(**(vars(file) | changes))


def test_whole(official, tmp_path, every_step_shown, capsys):
    path = fetch(official, tmp_path / "to", verbose=True)
    assert path.read_bytes() == CONTENT
    assert os.listdir(tmp_path / "to") == ["birds.tgz"]
    shown = capsys.readouterr().err
    assert "birds.tgz: 100%" in shown
    assert "391k/391k" in shown
    assert "checking birds.tgz: 100%" in shown


def test_md5_is_enough(official, tmp_path):
    md5 = hashlib.md5(CONTENT).hexdigest().upper()
    fetch(changed(official, sha256=None, md5=md5), tmp_path / "to")
    with pytest.raises(DownloadError, match="has the md5"):
        fetch(changed(official, sha256=None, md5="0" * 32), tmp_path / "other")


def test_goes_on_by_itself_when_the_connection_breaks(server, official, tmp_path):
    """Each answer is cut after 150,000 bytes: three requests, no byte asked for twice."""
    server.cut_after = 150_000
    assert fetch(official, tmp_path / "to").read_bytes() == CONTENT
    ranges = [wanted for _, wanted in server.requests]
    assert ranges == [None, "bytes=150000-", "bytes=300000-"]


def test_gives_up_and_goes_on_next_time(server, official, tmp_path):
    """A server that sends nothing more: the part is kept, and the next call asks for the rest."""
    part = tmp_path / "to" / "birds.tgz.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:100_000])
    server.cut_after = 0
    with pytest.raises(DownloadError, match=r"birds\.tgz.*closed too early.*part is kept"):
        fetch(official, part.parent)
    assert part.read_bytes() == CONTENT[:100_000]
    server.cut_after = None
    server.requests.clear()
    assert fetch(official, part.parent).read_bytes() == CONTENT
    assert server.requests == [("birds.tgz", "bytes=100000-")]
    assert not part.exists()


def test_server_without_ranges(server, official, tmp_path):
    """It starts afresh and does not append the whole file to its part."""
    server.ranges = False
    (tmp_path / "birds.tgz.part").write_bytes(CONTENT[:100_000])
    assert fetch(official, tmp_path).read_bytes() == CONTENT


def test_whole_part(server, official, tmp_path):
    """All had come, but the process ended before the checksum."""
    (tmp_path / "birds.tgz.part").write_bytes(CONTENT)
    assert fetch(official, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_part_of_a_longer_file(official, tmp_path):
    (tmp_path / "birds.tgz.part").write_bytes(bytes(len(CONTENT) + 5))
    assert fetch(official, tmp_path).read_bytes() == CONTENT


def test_corrupted_file_is_kept_aside(server, official, tmp_path):
    (server.folder / "birds.tgz").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(DownloadError, match=r"gave has the sha256 .* instead of .*kept as .*wrong"):
        fetch(official, tmp_path / "to")
    assert os.listdir(tmp_path / "to") == ["birds.tgz.wrong"]
    (server.folder / "birds.tgz").write_bytes(CONTENT)
    assert fetch(official, tmp_path / "to").read_bytes() == CONTENT


def test_mirror_is_asked_next(server, official, tmp_path):
    file = changed(official, url=f"{server.url}gone.tgz", mirror=official.url)
    assert fetch(file, tmp_path / "to").read_bytes() == CONTENT
    assert [name for name, _ in server.requests] == ["gone.tgz", "birds.tgz"]


def test_no_address_has_it(server, official, tmp_path):
    file = changed(official, url=f"{server.url}gone.tgz", mirror=f"{server.url}too.tgz")
    with pytest.raises(DownloadError, match=r"gone\.tgz .*HTTP 404.*too\.tgz .*HTTP 404"):
        fetch(file, tmp_path / "to")
    assert os.listdir(tmp_path / "to") == []


def test_dead_address_is_not_asked(server, official, tmp_path):
    file = changed(official, alive=False, mirror="ask the authors")
    with pytest.raises(DownloadError, match=r"birds\.tgz: its official address is dead"):
        fetch(file, tmp_path / "to")
    assert server.requests == []


def test_no_server_at_all(official, tmp_path):
    with pytest.raises(DownloadError, match=r"does not give it .*refused"):
        fetch(changed(official, url="http://127.0.0.1:9/birds.tgz"), tmp_path / "to")


def test_web_page_is_not_the_file(server, official, tmp_path):
    """Some hosts answer with a page to click on."""
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="a web page came instead of the file"):
        fetch(official, tmp_path / "to")
    assert os.listdir(tmp_path / "to") == []


def test_file_of_this_machine(official, tmp_path):
    (tmp_path / "copy.tgz").write_bytes(CONTENT)
    file = changed(official, url=(tmp_path / "copy.tgz").as_uri())
    assert fetch(file, tmp_path / "to").read_bytes() == CONTENT


def test_mirror_needs_a_checksum(official):
    """An unknown file from an unknown place is not taken; words are no address."""
    mirror = "http://example.org/birds.tgz"
    assert addresses(changed(official, mirror=mirror)) == [official.url, mirror]
    assert addresses(changed(official, mirror=mirror, sha256=None)) == [official.url]
    assert addresses(changed(official, mirror="see http://example.org")) == [official.url]
    assert addresses(changed(official, mirror=mirror, alive=False)) == [mirror]


def test_a_server_that_never_sends_all(server, official, tmp_path, pauses):
    """Without ranges it starts afresh and breaks off each time: the attempts have an end."""
    server.ranges, server.cut_after = False, 150_000
    with pytest.raises(DownloadError, match="closed too early"):
        fetch(official, tmp_path / "to")
    assert len(server.requests) == 1 + 4  # the first brought something
    assert pauses == [0.5, 0.5, 1.0, 2.0]


def test_a_server_that_always_sends_a_little(server, official, tmp_path, pauses, monkeypatch):
    server.cut_after = 100
    monkeypatch.setattr(module, "_ATTEMPTS_IN_ALL", 7)
    with pytest.raises(DownloadError, match="closed too early"):
        fetch(official, tmp_path / "to")
    assert len(server.requests) == 7
    assert set(pauses) == {0.5}


@pytest.mark.parametrize("length", ["many", "-5", "1.5"])
def test_a_length_that_is_no_number(server, official, tmp_path, length):
    server.length = length
    with pytest.raises(DownloadError, match=rf"a file of '{length}' bytes, which is no number"):
        fetch(official, tmp_path / "to")
    assert len(server.requests) == 1


def test_the_size_is_known_before_anything_is_read(server, official, tmp_path):
    with pytest.raises(DownloadError, match="has 400,000 bytes under this name instead of 300,000"):
        fetch(changed(official, size=300_000), tmp_path / "to")
    assert len(server.requests) == 1
    assert os.listdir(tmp_path / "to") == []
    assert fetch(changed(official, size=400_000), tmp_path / "to").read_bytes() == CONTENT


def test_a_file_of_another_size(official, tmp_path):
    (tmp_path / "birds.tgz").write_bytes(CONTENT)
    wrong = what_is_wrong(tmp_path / "birds.tgz", changed(official, size=300_000))
    assert wrong == "has 400,000 bytes instead of 300,000"


def test_the_archives_are_those_that_are_published():
    """Of Aircraft the values of the unpacked tar were expected, which no download can have."""
    (aircraft,) = DATASETS["aircraft"].files
    assert aircraft.sha256.startswith("e4e323d4")
    assert aircraft.md5 == "d4acdd33327262359767eeaa97a4f732"
    assert aircraft.size == 2_753_340_328
    files = [file for info in DATASETS.values() for file in info.files]
    assert all(file.sha256 or file.md5 for file in files)
    unknown = {file.name for file in files if file.size is None}
    assert unknown == {"indoorCVPR_09.tar", "TrainImages.txt", "TestImages.txt", "EnglishImg.tgz"}
