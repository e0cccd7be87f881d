"""Archives: whole or not at all, and never outside their folder."""

import errno
import gzip
import io
import os
import tarfile

import pytest
from tqdm import tqdm

from avalanche_mas.benchmarks.download import unpack as unpacking
from avalanche_mas.benchmarks.download.unpack import ArchiveError, unpack


def member(name, kind=tarfile.REGTYPE, link=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


def pack(path, *entries, content=b"content"):
    """Write an archive with an ordinary image and then ``entries``."""
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for entry in (member("jpg/image.jpg"), *entries):
            if entry.isreg():
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            else:
                tar.addfile(entry)
    return path


BAD = {
    "absolute": (member("/etc/passwd"), "has an absolute name"),
    "drive": (member("C:/Windows/a.jpg"), "has an absolute name"),
    "parent": (member("../outside.jpg"), "leads out of the folder"),
    "within": (member("jpg/../../outside.jpg"), "leads out of the folder"),
    "backslash": (member("jpg\\..\\..\\outside.jpg"), "leads out of the folder"),
    "symlink": (member("jpg/link", tarfile.SYMTYPE, "/etc"), "is a link to /etc"),
    "hard link": (member("jpg/link", tarfile.LNKTYPE, "jpg/image.jpg"), "is a link to jpg/image"),
    "device": (member("jpg/null", tarfile.CHRTYPE), "is neither a file nor a folder"),
    "deep": (member("jpg/" + "a/" * 2000 + "a.jpg"), "lies 2002 folders deep"),
    "fifo": (member("jpg/pipe", tarfile.FIFOTYPE), "is neither a file nor a folder"),
}


@pytest.mark.parametrize(("entry", "problem"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", ["bad.tgz", "bad.tar"])
def test_malicious_member(tmp_path, entry, problem, name):
    """The error names the member, and nothing is left of the rest either."""
    archive = pack(tmp_path / name, entry)
    with pytest.raises(ArchiveError) as caught:
        unpack(archive, tmp_path / "to" / "here", "jpg")
    assert f"member {entry.name[:80]}" in str(caught.value)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(archive))
    assert sorted(os.listdir(tmp_path)) == [name, "to"]
    assert os.listdir(tmp_path / "to") == ["here"]
    assert os.listdir(tmp_path / "to" / "here") == []


def test_link_then_file_through_it(tmp_path):
    """The classic: a link to a folder outside, then a file in that folder."""
    (tmp_path / "outside").mkdir()
    link = member("jpg/out", tarfile.SYMTYPE, str(tmp_path / "outside"))
    archive = pack(tmp_path / "bad.tar", link, member("jpg/out/evil.jpg"))
    with pytest.raises(ArchiveError, match="jpg/out is a link"):
        unpack(archive, tmp_path / "to", "jpg")
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize("name", ["good.tgz", "good.tar"])
def test_contents(tmp_path, name, every_step_shown, capsys):
    setuid = member("jpg/tool")
    setuid.mode, setuid.uid = 0o6777, 12345
    archive = pack(tmp_path / name, member("jpg/sub", tarfile.DIRTYPE), setuid)
    unpack(archive, tmp_path / "to", "jpg", verbose=True)
    assert sorted(os.listdir(tmp_path / "to" / "jpg")) == ["image.jpg", "sub", "tool"]
    assert (tmp_path / "to/jpg/image.jpg").read_bytes() == b"content"
    assert not (tmp_path / "to/jpg/tool").stat().st_mode & 0o7111
    assert os.listdir(tmp_path / "to") == ["jpg"]
    size = tqdm.format_sizeof(archive.stat().st_size, divisor=1024)
    assert f"/{size} [" in capsys.readouterr().err


def test_neighbours_stay(tmp_path):
    """VOC 2007 lies beside VOC 2012; what a manual attempt left behind is replaced."""
    old, stale = tmp_path / "VOCdevkit/VOC2007/a.xml", tmp_path / "VOCdevkit/read.me"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    stale.write_text("stale")
    archive = pack(tmp_path / "voc.tar", member("VOCdevkit/VOC2012/b"), member("VOCdevkit/read.me"))
    unpack(archive, tmp_path, "VOCdevkit/VOC2012")
    assert old.read_text() == "old"
    assert stale.read_text() == "content"
    assert (tmp_path / "VOCdevkit/VOC2012/b").exists()


def test_another_archive(tmp_path):
    archive = pack(tmp_path / "other.tgz")
    with pytest.raises(ArchiveError, match=r"other\.tgz has no images: it is not the official"):
        unpack(archive, tmp_path / "to", "images")
    assert os.listdir(tmp_path / "to") == []


@pytest.mark.parametrize("name", ["cut.tgz", "cut.tar"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_truncated(tmp_path, name, share):
    noise = os.urandom(50_000)
    archive = pack(tmp_path / name, member("jpg/second.jpg"), content=noise)
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    with pytest.raises(ArchiveError, match=r"is damaged .*: delete it and download it again"):
        unpack(archive, tmp_path / "to", "jpg")
    assert os.listdir(tmp_path / "to") == []


def test_garbage_within(tmp_path):
    archive = pack(tmp_path / "mixed.tgz", member("jpg/second.jpg"), content=bytes(50_000))
    content = gzip.decompress(archive.read_bytes())
    archive.write_bytes(gzip.compress(content[:20_000]) + b"garbage" * 99)
    with pytest.raises(ArchiveError, match=r"mixed\.tgz is damaged"):
        unpack(archive, tmp_path / "to", "jpg")


NOT_TAR = [b"<html>", b"", gzip.compress(b"text"), b"\x1f\x8b" + b"x" * 99]


@pytest.mark.parametrize("content", NOT_TAR, ids=["page", "empty", "gzip", "bad gzip"])
def test_no_archive(tmp_path, content):
    archive = tmp_path / "page.tgz"
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"page\.tgz"):
        unpack(archive, tmp_path / "to", "jpg")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("at", [0.4, 0.6, 0.8])
def test_damaged_within(tmp_path, kind, at):
    """Whatever it is packed with."""
    archive = tmp_path / f"bad.tar.{kind}"
    with tarfile.open(archive, f"w:{kind}") as tar:
        for name in ("jpg/image.jpg", "jpg/second.jpg"):
            entry = member(name)
            entry.size = 50_000
            tar.addfile(entry, io.BytesIO(os.urandom(50_000)))
    content = bytearray(archive.read_bytes())
    start = int(at * len(content))
    content[start : start + 500] = bytes(500)
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"bad\.tar.*is damaged"):
        unpack(archive, tmp_path / "to", "jpg")
    assert os.listdir(tmp_path / "to") == []


@pytest.mark.parametrize("field", [(124, 136), (100, 108), (148, 156)])
@pytest.mark.parametrize("junk", [b"\xff", b"9", b"\x80"])
def test_a_member_with_a_damaged_header(tmp_path, field, junk):
    """Its size, mode or checksum: refused or, where it does not matter, unpacked as it was."""
    archive = pack(tmp_path / "bad.tar", member("jpg/second.jpg"))
    content = bytearray(archive.read_bytes())
    second = 1024  # where its header begins
    content[second + field[0] : second + field[1]] = junk * (field[1] - field[0])
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"bad\.tar"):
        unpack(archive, tmp_path / "to", "jpg/second.jpg")
    assert os.listdir(tmp_path / "to") == []


def test_a_small_archive_does_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_LEAST_ROOM", 1_000_000)
    archive = pack(tmp_path / "bomb.tgz", member("jpg/zeros.jpg"), content=bytes(1_000_001))
    with pytest.raises(ArchiveError, match=r"image\.jpg makes the contents larger than 20 times"):
        unpack(archive, tmp_path / "to", "jpg")
    assert os.listdir(tmp_path / "to") == []
    archive = pack(tmp_path / "fine.tgz", member("jpg/zeros.jpg"), content=bytes(400_000))
    unpack(archive, tmp_path / "to", "jpg")


def test_a_full_disk_is_no_damage(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = pack(tmp_path / "good.tgz")
    monkeypatch.setattr(tarfile.TarFile, "makefile", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(archive, tmp_path / "to", "jpg")
    assert os.listdir(tmp_path / "to") == []


def test_what_a_killed_process_left(tmp_path):
    """Half an unpacked archive does not get into the next one."""
    archive = pack(tmp_path / "good.tgz")
    left = tmp_path / "to" / ".good.tgz.unpacking" / "jpg"
    left.mkdir(parents=True)
    (left / "half.jpg").write_text("")
    unpack(archive, tmp_path / "to", "jpg")
    assert os.listdir(tmp_path / "to" / "jpg") == ["image.jpg"]
    assert os.listdir(tmp_path / "to") == ["jpg"]
