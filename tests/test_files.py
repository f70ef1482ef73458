"""A file is written whole or not at all, and nothing else is left."""

import os

import pytest

from bn_from_scratch.files import write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["naïve Größe ∑\n", "naïve ∑".encode(), b"", ""])
def test_what_was_written_is_there_and_nothing_beside_it(tmp_path, content):
    path = tmp_path / "deep" / "er" / "a.txt"
    write_atomically(path, content)
    data = content.encode() if isinstance(content, str) else content
    assert path.read_bytes() == data
    assert names(path.parent) == ["a.txt"]


def test_the_whole_content_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "a.txt", []
    fsync, replace = os.fsync, os.replace

    def kept(number):
        fsync(number)
        seen.append(("kept", os.fstat(number).st_size, path.exists()))

    def renamed(source, target):
        seen.append(("named", os.stat(source).st_size, path.exists()))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", kept)
    monkeypatch.setattr(os, "replace", renamed)
    write_atomically(path, "12345")
    assert seen == [("kept", 5, False), ("named", 5, False)]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, step):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def full(*_):
        raise OSError("full")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match=r"^full$"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_two_processes_do_not_write_into_each_others_file(tmp_path, monkeypatch):
    """The second begins and ends while the first is writing."""
    path, fsync = tmp_path / "a.txt", os.fsync

    def interrupted(number):
        fsync(number)
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "getpid", lambda: 2)
        write_atomically(path, "second")
        assert path.read_text() == "second"

    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "fsync", interrupted)
    write_atomically(path, "the first")
    assert path.read_text() == "the first"
    assert names(tmp_path) == ["a.txt"]
