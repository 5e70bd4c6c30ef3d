"""A bank of hostile submissions, graded in one batch with honest ones among them: nobody gains, and nobody else loses."""

import ast
import json
import os
from pathlib import Path

import pytest

from learning.course.tasks import ROOT, TASKS
from learning.grading import batch, gradebook, pages
from learning.grading.isolation import SWITCH, Isolation, isolation
from learning.grading.runners import on_this_machine

from .hostile import HOSTILE, SECRET, Hostile
from .test_grading import LESSON, answer_to, rows, worked

JUDGED = ["custom_memory_lru", "memory_monitoring"]
"""An honest task, and the one that is attacked: two are enough to see whom it harms."""

ISOLATIONS = [each for each in (Isolation.BUBBLEWRAP, Isolation.LANDLOCK)]

ONLY_IN_BUBBLEWRAP = {"fills the disk"}


def notebook_of(hostile: Hostile, outside: Path) -> str:
    notebook = worked()
    source = hostile.source.replace("{root}", str(ROOT)).replace("{outside}", str(outside))
    answer = answer_to(notebook, "memory_monitoring")
    others_use = [part for part in ast.parse("".join(answer["source"])).body if not isinstance(part, ast.ClassDef)]
    answer["source"] = "\n".join(map(ast.unparse, others_use)) + source
    return json.dumps(notebook)


@pytest.fixture(scope="module", params=ISOLATIONS)
def graded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """The whole bank, graded in one isolation: the rows of the gradebook, and where the grades are."""
    folder = tmp_path_factory.mktemp("hostile")
    outside = folder / "outside"
    outside.mkdir()
    (folder / "grades").mkdir()
    for number, hostile in enumerate(HOSTILE):
        place = folder / "class" / f"{number:02} {hostile.tries}"
        place.mkdir(parents=True)
        (place / LESSON).write_text(notebook_of(hostile, outside), encoding="utf-8")
        for name, text in hostile.beside.items():
            (place / name).write_text(text)
        if number % 8 == 0:  # honest ones, before and after
            honest = folder / "class" / f"{number:02} zz honest"
            honest.mkdir()
            (honest / LESSON).write_text(json.dumps(worked()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, request.param)
        patch.setenv("COURSE_PASSWORD", SECRET)
        isolation.cache_clear()
        if isolation() is not request.param:
            pytest.skip(f"there is no {request.param} here")
        for module in (batch, gradebook, pages):
            patch.setattr(module, "graded_tasks", lambda lesson: [TASKS[name] for name in JUDGED])
        agent = (ROOT / "src" / "learning" / "agent.py").read_bytes()
        graded = batch.grade(folder / "class", folder / "grades", lessons=[1], runner=on_this_machine(2))
        assert (ROOT / "src" / "learning" / "agent.py").read_bytes() == agent
    isolation.cache_clear()
    return request.param, rows(graded), folder


def row_of(graded, hostile: Hostile) -> dict[str, str]:
    return graded[1][f"{HOSTILE.index(hostile):02} {hostile.tries}"]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.tries)
def test_wrong_work_gets_no_marks_and_is_called_by_its_name(graded, hostile: Hostile):
    row = row_of(graded, hostile)

    assert float(row["memory_monitoring"]) < 10, row["remarks"]
    assert row["custom_memory_lru"] == "10.0", row["remarks"]
    if not (hostile.tries in ONLY_IN_BUBBLEWRAP and graded[0] is not Isolation.BUBBLEWRAP):
        assert hostile.says in row["remarks"]


def test_neighbours_lose_nothing(graded):
    honest = {name: row for name, row in graded[1].items() if name.endswith("zz honest")}

    assert len(honest) == -(-len(HOSTILE) // 8)
    assert {name: (row["total"], row["remarks"]) for name, row in honest.items()} == dict.fromkeys(honest, ("20.0", ""))


def test_nothing_is_written_or_known_outside(graded):
    _, _, folder = graded

    assert list((folder / "outside").iterdir()) == []
    assert sorted(path.name for path in folder.iterdir()) == ["class", "grades", "outside"]
    for path in (folder / "grades").rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
            assert path.stat().st_size < 500_000, path


def test_pages_run_nothing(graded):
    pages = [path.read_text(encoding="utf-8") for path in (graded[2] / "grades").rglob("*.html")]

    assert any("&lt;script&gt;alert(1)" in page for page in pages)
    assert not any("<script" in page or "<img" in page for page in pages)


def test_the_bank_is_large_enough():
    assert len({hostile.tries for hostile in HOSTILE}) == len(HOSTILE) >= 40


def test_without_isolation_each_mark_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SWITCH, Isolation.NONE)
    isolation.cache_clear()
    (tmp_path / "class" / "ana").mkdir(parents=True)
    (tmp_path / "class" / "ana" / LESSON).write_text(json.dumps(worked()), encoding="utf-8")
    try:
        graded = rows(batch.grade(tmp_path / "class", tmp_path / "grades", lessons=[1]))
    finally:
        isolation.cache_clear()

    assert "was judged without isolation" in graded["ana"]["remarks"]
    assert "can read and change whatever you can" in (tmp_path / "grades" / "report.html").read_text()
    assert graded["ana"]["total"] == "40.0"
    assert os.environ[SWITCH] == "none"
