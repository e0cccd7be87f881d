"""Downloads from a real server: they resume, and only the right file is kept."""

import hashlib
import os
import random

import pytest
from serving import Server

from avalanche_mas.benchmarks.datasets import OfficialFile
from avalanche_mas.benchmarks.download.fetch import DownloadError, addresses, fetch

CONTENT = random.Random(0).randbytes(400_000)
RIGHT = {"sha256": hashlib.sha256(CONTENT).hexdigest()}


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
