"""A file is written whole or not at all, and nothing stays beside it."""

import os
from pathlib import Path

import pytest

from learning import atomic


def test_a_file_is_written_with_its_folders_and_it_is_told_whether_it_is_another_one(tmp_path: Path):
    path = tmp_path / "deep" / "file"
    assert atomic.write(path, b"one")
    assert not atomic.write(path, b"one")
    assert atomic.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_file_that_is_the_same_is_not_touched(tmp_path: Path):
    path = tmp_path / "file"
    atomic.write(path, b"one")
    before = path.stat().st_ino
    atomic.write(path, b"one")
    assert path.stat().st_ino == before


@pytest.mark.parametrize("interruption", [OSError("the disk is full"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_was_there_stays_and_no_draft_does_whatever_happens(tmp_path: Path, monkeypatch, call: str, interruption):
    def fail(*_: object) -> None:
        raise interruption

    path = tmp_path / "file"
    atomic.write(path, b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(interruption)):
        atomic.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_place_where_a_folder_is_cannot_be_written_and_the_folder_stays(tmp_path: Path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        atomic.write(tmp_path / "folder", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "inside").is_dir()
