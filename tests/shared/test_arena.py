"""The shared memory: who can change it, what keeps it alive, what is left when writing fails."""

from __future__ import annotations

import errno
import os
import random
import resource
import stat
import sys
import weakref

import numpy as np
import pytest

from aioray.exceptions import ObjectStoreFullError, OutOfDiskError
from aioray.shared import arena as module
from aioray.shared import linux
from aioray.shared.arena import (
    Arena,
    disk_full,
    is_whole,
    not_written,
    open_file,
    read_file,
    write_file,
)

PAGE = 4096
SIZE = 64 * PAGE


@pytest.fixture
def arena():
    """64 pages."""
    arena = Arena.create(SIZE)
    yield arena
    arena.close()


class Owner:
    """Something that can be watched."""


def mappings(inode):
    """The permissions of each mapping of a file in this process."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        lines = [line.split() for line in file]
    return [fields[1] for fields in lines if fields[4] == str(inode)]


def descriptors():
    return sorted(int(name) for name in os.listdir("/proc/self/fd"))


def pieces_of(data, count, seed=0):
    """`data` cut into `count` pieces, bytes and memoryviews, some of them empty."""
    rng = random.Random(seed)
    cuts = sorted(rng.choices(range(len(data) + 1), k=count - 1))
    found = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [memoryview(piece) if index % 2 else piece for index, piece in enumerate(found)]


def short_writes(monkeypatch, most):
    """Let every write take `most` bytes only; the sizes of the batches."""
    write = os.pwritev
    batches = []

    def pwritev(fd, batch, offset):
        batches.append(len(batch))
        return write(fd, [b"".join(batch)[:most]], offset)

    monkeypatch.setattr(os, "pwritev", pwritev)
    return batches


# ---------------------------------------------------------------- copying


@pytest.mark.parametrize("count", [1, 2, 7, 300])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("chunk", [1000, module.COPY_CHUNK])
def test_copying_does_what_writing_does(arena, monkeypatch, count, mapped, chunk):
    monkeypatch.setattr(module, "COPY_CHUNK", chunk)
    data = random.Random(1).randbytes(5 * PAGE - 3)
    around = random.Random(2).randbytes(SIZE)
    arena.write(0, [around])
    arena.copy(3 * PAGE + 5, pieces_of(data, count), len(data), mapped=mapped)
    end = 3 * PAGE + 5 + len(data)
    assert os.pread(arena.fd, SIZE, 0) == around[: 3 * PAGE + 5] + data + around[end:]


def test_copying_where_the_system_maps_nothing_in_advance_writes(arena, monkeypatch):
    monkeypatch.setattr(linux, "MADV_POPULATE_WRITE", 12345)  # a kernel that does not know it
    batches = short_writes(monkeypatch, SIZE)
    arena.copy(PAGE, [b"x" * PAGE], PAGE, mapped=False)
    assert batches == [1]
    assert os.pread(arena.fd, 3 * PAGE, 0) == bytes(PAGE) + b"x" * PAGE + bytes(PAGE)


def test_closed_arena_is_not_copied_to(arena):
    arena.copy(0, [b"x"], 1, mapped=False)
    inode = os.fstat(arena.fd).st_ino
    assert "rw-s" in mappings(inode)
    arena.close()
    assert mappings(inode) == []
    with pytest.raises(RuntimeError, match="shut down"):
        arena.copy(0, [b"x"], 1, mapped=True)


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize("size", [0, PAGE, SIZE - 1, SIZE + PAGE])
def test_size_can_never_be_changed(arena, size):
    with pytest.raises(PermissionError):
        os.ftruncate(arena.fd, size)
    with pytest.raises(PermissionError):
        os.pwrite(arena.fd, b"x", SIZE)
    assert os.fstat(arena.fd).st_size == SIZE


def test_what_was_not_written_takes_no_memory_and_reads_as_zeros(arena):
    assert os.fstat(arena.fd).st_blocks == 0
    assert bytes(arena.view(5 * PAGE, 100, None)) == bytes(100)


def test_workers_of_others_do_not_inherit_the_file(arena):
    assert not os.get_inheritable(arena.fd)


def test_given_back_memory_reads_as_zeros_and_its_neighbours_stay(arena):
    arena.write(0, [b"a" * PAGE, b"b" * PAGE, b"c" * PAGE])
    blocks = os.fstat(arena.fd).st_blocks
    view = memoryview(arena.view(0, 3 * PAGE, None))
    arena.give_back(PAGE, PAGE)
    assert os.fstat(arena.fd).st_blocks == blocks * 2 // 3  # until somebody reads there
    assert bytes(view) == b"a" * PAGE + bytes(PAGE) + b"c" * PAGE


# ---------------------------------------------------------------- views


def test_views_see_what_was_written_where_they_lie(arena):
    early = arena.view(3 * PAGE, 6, None)
    arena.write(3 * PAGE, [b"abc", b"def"])
    assert bytes(early) == b"abcdef"
    assert bytes(arena.view(3 * PAGE + 2, 3, None)) == b"cde"


KEEPERS = {
    "memoryview": memoryview,
    "slice of a memoryview": lambda view: memoryview(view)[1:3],
    "read-only cast": lambda view: memoryview(view).cast("B").toreadonly(),
    "array": lambda view: np.frombuffer(view, dtype="u1"),
    "slice of an array": lambda view: np.frombuffer(view, dtype="u1")[4:8:2],
    "array of another shape": lambda view: np.frombuffer(view, dtype="u2").reshape(2, -1).T,
}


@pytest.mark.parametrize("make", KEEPERS.values(), ids=KEEPERS)
def test_owner_lives_as_long_as_any_buffer_made_of_its_view(arena, make):
    owner = Owner()
    watch = weakref.ref(owner)
    view = arena.view(0, 64, owner)
    seen = weakref.ref(view)
    buffer = make(view)
    del owner, view
    assert watch() is not None
    assert seen() is not None
    del buffer
    assert seen() is None
    assert watch() is None


def test_memory_is_mapped_once_and_for_reading_only(arena):
    inode = os.fstat(arena.fd).st_ino
    assert mappings(inode) == []
    views = [arena.view(index * PAGE, PAGE, None) for index in range(5)]
    assert mappings(inode) == ["r--s"]
    del views
    assert mappings(inode) == ["r--s"]  # for the views to come


def test_views_stay_usable_after_closing_and_the_mapping_goes_with_the_last(arena):
    inode = os.fstat(arena.fd).st_ino
    arena.write(0, [b"still here"])
    one, two = arena.view(0, 10, None), memoryview(arena.view(6, 4, None))
    arena.close()
    arena.fd = -1
    assert bytes(one) == b"still here"
    del one
    assert bytes(two) == b"here"
    assert mappings(inode) == ["r--s"]
    del two
    assert mappings(inode) == []


@pytest.mark.parametrize("why", ["few addresses are left", "the whole is refused"])
def test_values_are_mapped_one_by_one_where_all_of_it_cannot_be(arena, monkeypatch, why):
    if why == "few addresses are left":
        monkeypatch.setattr(linux, "addresses_left", lambda: SIZE)
    else:
        mapped = linux.map_readable

        def refuse(fd, start, size):
            if size == SIZE:
                raise OSError(errno.ENOMEM, "mmap: no room")
            return mapped(fd, start, size)

        monkeypatch.setattr(linux, "map_readable", refuse)
    inode = os.fstat(arena.fd).st_ino
    arena.write(PAGE - 10, [b"0123456789abcdefghij"])
    arena.copy(3 * PAGE, [b"copied"], 6, mapped=False)
    one, two = arena.view(PAGE - 10, 20, None), arena.view(PAGE + 5, 3, None)
    assert (bytes(one), bytes(two)) == (b"0123456789abcdefghij", b"fgh")
    del two
    assert len([mode for mode in mappings(inode) if mode == "r--s"]) == 1
    del one
    assert "r--s" not in mappings(inode)
    assert bytes(arena.view(3 * PAGE, 6, None)) == b"copied"


def test_mapping_that_the_system_refuses_is_an_error_and_can_be_tried_again(arena, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    def refuse(fd, start, size):
        raise OSError(errno.ENOMEM, "mmap: no room")

    with monkeypatch.context() as patch:
        patch.setattr(linux, "map_readable", refuse)
        with pytest.raises(OSError, match="refuses to map 1 bytes"):
            arena.view(0, 1, None)
    arena.write(0, [b"x"])
    assert bytes(arena.view(0, 1, None)) == b"x"
    assert [found.exc_value for found in unraisable] == []


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("count", [1, 2, 1023, 1024, 1025, 5000])
def test_any_number_of_pieces_is_written_in_order(arena, monkeypatch, count):
    batches = short_writes(monkeypatch, SIZE)
    data = random.Random(count).randbytes(10_000)
    arena.write(PAGE, pieces_of(data, count))
    assert os.pread(arena.fd, 12_000, PAGE) == data + bytes(2000)
    assert sum(batches) == count
    assert max(batches) <= 1024  # IOV_MAX


@pytest.mark.parametrize("most", [1, 7, 64, 1000])
def test_writes_that_stop_early_are_carried_on(arena, monkeypatch, most):
    data = random.Random(most).randbytes(3000)
    pieces = pieces_of(data, 200)
    short_writes(monkeypatch, most)
    arena.write(100, pieces)
    assert os.pread(arena.fd, 3200, 0) == bytes(100) + data + bytes(100)
    assert b"".join(pieces) == data  # the caller's are as they were


@pytest.mark.parametrize("pieces", [[], [b""], [b"", memoryview(b""), b""], [b""] * 2000])
def test_nothing_is_written_of_empty_pieces(arena, pieces):
    arena.write(0, pieces)
    assert os.fstat(arena.fd).st_blocks == 0


def test_empty_pieces_at_either_end_do_no_harm(arena):
    arena.write(0, [b"", b"", b"ab", b"", b"c", b""])
    assert os.pread(arena.fd, 4, 0) == b"abc\0"


def test_no_memory_left_is_an_error_with_its_cause(arena, monkeypatch):
    def refuse(fd, batch, offset):
        raise OSError(errno.ENOSPC, "no memory")

    monkeypatch.setattr(os, "pwritev", refuse)
    with pytest.raises(ObjectStoreFullError, match="no memory left") as info:
        arena.write(0, [b"x"])
    assert info.value.__cause__.errno == errno.ENOSPC


# ---------------------------------------------------------------- files


def test_file_holds_the_pieces_and_only_its_user_may_read_it(tmp_path):
    path = tmp_path / "1"
    data = random.Random(1).randbytes(5000)
    before = descriptors()
    write_file(str(path), pieces_of(data, 1500), len(data))
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert descriptors() == before


def test_file_that_exists_is_not_touched(tmp_path):
    path = tmp_path / "1"
    path.write_bytes(b"somebody's")
    with pytest.raises(ObjectStoreFullError):
        write_file(str(path), [b"mine"], 4)
    assert path.read_bytes() == b"somebody's"


def test_no_folder_is_an_error_that_names_it(tmp_path):
    folder = tmp_path / "missing"
    with pytest.raises(ObjectStoreFullError, match=str(folder)):
        write_file(str(folder / "1"), [b"x"], 1)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path, monkeypatch, code):
    write = os.pwritev
    calls = []

    def pwritev(fd, batch, offset):
        calls.append(os.listdir(tmp_path))
        if len(calls) == 2:
            raise OSError(code, "broken")
        return write(fd, [b"".join(batch)[:10]], offset)

    monkeypatch.setattr(os, "pwritev", pwritev)
    before = descriptors()
    with pytest.raises((OutOfDiskError, ObjectStoreFullError), match="broken"):
        write_file(str(tmp_path / "1"), [b"x" * 100], 100)
    assert calls == [["1"], ["1"]]
    assert os.listdir(tmp_path) == []
    assert descriptors() == before


def test_nothing_is_left_of_a_file_whose_writing_was_interrupted(tmp_path, monkeypatch):
    def pwritev(fd, batch, offset):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwritev", pwritev)
    before = descriptors()
    with pytest.raises(KeyboardInterrupt):
        write_file(str(tmp_path / "1"), [b"x"], 1)
    assert os.listdir(tmp_path) == []
    assert descriptors() == before


def test_file_beyond_the_limit_of_this_process_is_out_of_disk(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * PAGE, hard))
    try:
        with pytest.raises(OutOfDiskError) as info:
            write_file(str(tmp_path / "1"), [b"x" * PAGE, b"y" * 2 * PAGE], 3 * PAGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert info.value.__cause__.errno == errno.EFBIG
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_on_disk_is_out_of_disk(code):
    error = not_written(OSError(code, "why"), "/some/folder", 1_234_567)
    assert type(error) is OutOfDiskError
    for part in ("1,234,567 bytes", "/some/folder", "why"):
        assert part in str(error)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO, errno.EMFILE])
def test_other_reasons_are_a_full_store(code):
    error = not_written(OSError(code, "why"), "/some/folder", 1_234_567)
    assert type(error) is ObjectStoreFullError
    for part in ("1,234,567 bytes", "/some/folder", "why"):
        assert part in str(error)


def test_disk_full_says_how_much_was_wanted_where_and_why():
    text = disk_full(5000, "/here", "because")
    assert "5,000 bytes" in text
    assert "/here: because" in text


# ---------------------------------------------------------------- reading files


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 5000])
def test_file_is_read_in_chunks_into_memory_of_ones_own(tmp_path, monkeypatch, size):
    monkeypatch.setattr(module, "CHUNK", 1000)
    path = tmp_path / "1"
    data = random.Random(size).randbytes(size)
    path.write_bytes(data)
    before = descriptors()
    copy = read_file(str(path), size)
    assert descriptors() == before
    path.write_bytes(b"-" * size)
    os.truncate(path, 0)
    assert copy == data
    assert copy.readonly
    with pytest.raises(TypeError):
        copy[0] = 0


def test_reads_that_stop_early_are_carried_on(tmp_path, monkeypatch):
    read = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, into, at: read(fd, [into[0][:7]], at))
    data = random.Random(0).randbytes(100)
    (tmp_path / "1").write_bytes(data)
    assert read_file(str(tmp_path / "1"), 100) == data


@pytest.mark.parametrize("size", [0, 99, 101])
def test_file_of_another_size_is_gone(tmp_path, size):
    path = tmp_path / "1"
    path.write_bytes(bytes(size))
    before = descriptors()
    assert read_file(str(path), 100) is None
    assert descriptors() == before


def test_missing_file_is_gone(tmp_path):
    assert read_file(str(tmp_path / "1"), 100) is None
    assert read_file(str(tmp_path / "folder" / "1"), 100) is None


def make_link(path):
    write_file(f"{path}-real", [b"x"], 1)
    os.symlink(f"{path}-real", path)


NOT_OURS = {"link": make_link, "pipe": os.mkfifo, "folder": os.mkdir}


@pytest.mark.parametrize("kind", NOT_OURS)
def test_what_is_no_file_of_this_user_is_gone(tmp_path, kind):
    path = str(tmp_path / "1")
    NOT_OURS[kind](path)
    assert open_file(path) is None
    assert read_file(path, 1) is None
    assert not any(is_whole(path, size) for size in (os.lstat(path).st_size, 1))


def test_file_of_somebody_else_is_gone(tmp_path, monkeypatch):
    path = str(tmp_path / "1")
    write_file(path, [b"x"], 1)
    uid = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert open_file(path) is None
    assert read_file(path, 1) is None
    assert not is_whole(path, 1)


def test_file_that_is_cut_while_it_is_read_is_gone(tmp_path, monkeypatch):
    path = tmp_path / "1"
    path.write_bytes(bytes(100))
    read = os.preadv

    def preadv(fd, into, at):
        os.truncate(path, 40)
        return read(fd, into, at)

    monkeypatch.setattr(os, "preadv", preadv)
    assert read_file(str(path), 100) is None


def test_file_that_cannot_be_read_for_another_reason_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        read_file(str(tmp_path / "file" / "1"), 100)


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 5000])
def test_file_is_copied_into_shared_memory_in_chunks(arena, tmp_path, monkeypatch, size):
    monkeypatch.setattr(module, "CHUNK", 1000)
    data = random.Random(size).randbytes(size)
    (tmp_path / "1").write_bytes(data)
    before = descriptors()
    assert arena.write_from_file(PAGE, str(tmp_path / "1"), size) is True
    assert os.pread(arena.fd, size + 2, PAGE - 1) == b"\0" + data + b"\0"
    assert descriptors() == before


def test_reads_that_stop_early_are_carried_on_into_shared_memory(arena, tmp_path, monkeypatch):
    read = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, into, at: read(fd, [into[0][:7]], at))
    data = random.Random(0).randbytes(100)
    (tmp_path / "1").write_bytes(data)
    assert arena.write_from_file(0, str(tmp_path / "1"), 100) is True
    assert os.pread(arena.fd, 101, 0) == data + b"\0"


@pytest.mark.parametrize("size", [None, 0, 99, 101])
def test_file_that_is_gone_or_of_another_size_is_not_copied(arena, tmp_path, size):
    path = tmp_path / "1"
    if size is not None:
        path.write_bytes(b"x" * size)
    before = descriptors()
    assert not is_whole(str(path), 100)
    assert arena.write_from_file(0, str(path), 100) is False
    assert os.fstat(arena.fd).st_blocks == 0
    assert descriptors() == before
    path.write_bytes(b"x" * 100)
    assert is_whole(str(path), 100)


def test_shared_memory_that_takes_no_more_of_a_file_is_an_error(arena, tmp_path, monkeypatch):
    def refuse(fd, batch, offset):
        raise OSError(errno.ENOSPC, "no memory")

    (tmp_path / "1").write_bytes(b"x" * 100)
    monkeypatch.setattr(os, "pwritev", refuse)
    before = descriptors()
    with pytest.raises(ObjectStoreFullError, match="no memory left"):
        arena.write_from_file(0, str(tmp_path / "1"), 100)
    assert descriptors() == before
