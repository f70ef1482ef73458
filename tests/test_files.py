"""A file is written whole or not at all, and nothing else is left."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from bn_from_scratch.files import write_atomically, written_whole


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


def test_two_threads_do_not_write_into_each_others_file(tmp_path):
    path, wrong = tmp_path / "a.bin", []
    contents = [bytes([i]) * (100_000 + i) for i in range(4)]

    def write(content):
        for _ in range(30):
            write_atomically(path, content)
            if path.read_bytes() not in contents:
                wrong.append(content[0])

    threads = [threading.Thread(target=write, args=(c,)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert names(tmp_path) == ["a.bin"]


WRITER = """
import os, sys, time
from bn_from_scratch.files import write_atomically

fsync = os.fsync

def slow(number):
    print("writing", flush=True)
    sys.stdin.readline()
    fsync(number)

os.fsync = slow
write_atomically(sys.argv[1], "of the other")
"""


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of a write to a.txt; a line of input lets it go on."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a.txt")]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.communicate()


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path, writer):
    writer.kill()
    writer.wait()
    assert len(names(tmp_path)) == 1  # a temporary one
    (tmp_path / ".bn-notes.tmp").touch()  # of somebody else
    write_atomically(tmp_path / "b.txt", "mine")
    assert names(tmp_path) == [".bn-notes.tmp", "b.txt"]


def test_what_a_process_alive_is_writing_stays(tmp_path, writer):
    path = tmp_path / "a.txt"
    write_atomically(path, "mine")
    assert path.read_text() == "mine"
    writer.stdin.write("\n")
    writer.stdin.flush()
    assert writer.wait() == 0
    assert path.read_text() == "of the other"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_mode_is_what_the_umask_gives(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with written_whole(tmp_path / "a.txt") as place:
            place.touch(0o600)
            place.chmod(0o600 if umask == 0o022 else 0o666)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "b.txt").write_text("old")
    (tmp_path / "a.txt").symlink_to("b.txt")
    write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "b.txt").read_text() == "old"
    assert not (tmp_path / "a.txt").is_symlink()
