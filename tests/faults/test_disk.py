"""The kills and power cuts that lessons and graded tests are made of: what they leave, and nothing else."""

import os
from pathlib import Path

import pytest

from learning.faults.disk import Disk, killed, moments, restore

OLD, NEW = b"old " * 1000, b"new " * 1000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "store" / "file"
    file.parent.mkdir()
    file.write_bytes(OLD)
    return file


def beside(file: Path, sync: bool = True) -> None:
    with open(file.with_suffix(".new"), "wb") as new:
        new.write(NEW)
        new.flush()
        if sync:
            os.fsync(new.fileno())
    os.replace(file.with_suffix(".new"), file)


def sync_folder(file: Path) -> None:
    folder = os.open(file.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


# --- kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("byte", [0, 1, 3000])
def test_the_kernel_kills_a_process_at_a_byte_of_its_file(file: Path, byte: int):
    assert killed(lambda: file.write_bytes(NEW), at_byte=byte)
    assert file.read_bytes() == NEW[:byte]


def test_a_process_that_writes_no_more_than_that_is_not_killed(file: Path):
    assert not killed(lambda: file.write_bytes(NEW), at_byte=len(NEW))
    assert file.read_bytes() == NEW


def test_a_process_is_killed_at_each_moment_in_turn(file: Path):
    found = []
    for moment in range(100):
        file.write_bytes(OLD)
        was_killed = killed(lambda: beside(file), at_moment=moment)
        found.append((was_killed, file.read_bytes()))
        if not was_killed:
            break
    assert found == [(True, OLD)] * 3 + [(True, NEW), (False, NEW)]  # before and after the sync, and the new name


def test_an_error_in_the_process_is_told(file: Path):
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        killed(lambda: 1 / 0)


def test_functions_that_a_module_has_imported_are_seen_too(file: Path):
    names, seen = {"sync": os.fsync}, []
    with moments(lambda name, arguments, done: seen.append((name, done)), names), open(file) as opened:
        names["sync"](opened.fileno())
    assert seen == [("fsync", False), ("fsync", True)]
    assert names == {"sync": os.fsync}


# --- power cuts -------------------------------------------------------------------------------------------------------


def left(disk: Disk) -> set[bytes | None]:
    """What a cut at this moment may leave of the file, in many tries."""
    return {image.get("file") for _ in range(30) for image in disk.now()}


def test_what_was_there_before_is_synced(file: Path):
    with Disk(file.parent) as disk:
        assert left(disk) == {OLD}


def test_what_is_written_and_not_synced_may_be_lost_or_torn(file: Path):
    with Disk(file.parent) as disk:
        file.write_bytes(NEW)
        found = left(disk)
        assert {OLD, NEW[:512] + OLD[512:]} & found and len(found) > 5
        assert {len(data) for data in found} == {len(OLD)}


def test_a_new_name_may_be_there_without_its_content(file: Path):
    with Disk(file.parent) as disk:
        beside(file, sync=False)
        assert b"" in left(disk)


def test_a_synced_file_under_a_name_that_is_not_is_the_old_one_or_the_new(file: Path):
    with Disk(file.parent) as disk:
        beside(file)
        assert left(disk) == {OLD, NEW}
        assert all(image.get("file") in (OLD, NEW) for image in disk.images)
        sync_folder(file)
        assert left(disk) == {NEW}


def test_a_file_that_is_gone_is_there_until_the_folder_is_synced(file: Path):
    with Disk(file.parent) as disk:
        file.unlink()
        assert left(disk) == {OLD, None}
        sync_folder(file)
        assert left(disk) == {None}


def test_a_new_folder_is_there_when_the_folder_it_is_in_is_synced(file: Path):
    with Disk(file.parent) as disk:
        inner = file.parent / "inner"
        inner.mkdir()
        (inner / "one").write_bytes(NEW)
        with open(inner / "one") as one:
            os.fsync(one.fileno())
        sync_folder(inner / "one")
        assert {image.get("inner/one") for image in disk.now()} == {None, NEW}
        sync_folder(inner)
        assert {image.get("inner/one") for image in disk.now()} == {NEW}


def test_a_name_behind_which_no_file_is_any_more_is_passed_over(file: Path):
    (file.parent / "dangling").symlink_to("nowhere")
    with Disk(file.parent) as disk:
        beside(file)
        sync_folder(file)
        assert left(disk) == {NEW}
        assert all(image.keys() == {"file"} for image in disk.now())


def test_an_image_is_restored_as_it_was(file: Path, tmp_path: Path):
    (file.parent / "inner").mkdir()
    (file.parent / "inner" / "one").write_bytes(NEW)
    with Disk(file.parent) as disk:
        image = disk.now()[0]
    place = restore(image, tmp_path / "after")
    assert (place / "file").read_bytes() == OLD
    assert (place / "inner" / "one").read_bytes() == NEW
