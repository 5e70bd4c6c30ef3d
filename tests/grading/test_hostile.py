"""A bank of hostile submissions, graded in one batch with honest ones among them: nobody gains, and nobody else loses."""

import ast
import json
import os
from pathlib import Path

import pytest

from learning.course.tasks import ROOT
from learning.grading import batch
from learning.grading.isolation import SWITCH, Isolation, isolation
from learning.grading.runners import on_this_machine

from .hostile import FOR_OTHERS, HOSTILE, SECRET, Hostile
from .test_grading import LESSON, answer_to, hand_in, rows, worked

TRIED = {Isolation.BUBBLEWRAP: HOSTILE, Isolation.LANDLOCK: FOR_OTHERS}
"""What is tried in which isolation: what no isolation changes is tried once."""


def notebook_of(hostile: Hostile, outside: Path) -> str:
    notebook = worked()
    source = hostile.source.replace("{root}", str(ROOT)).replace("{outside}", str(outside))
    answer = answer_to(notebook, "memory_monitoring")
    others_use = [part for part in ast.parse("".join(answer["source"])).body if not isinstance(part, ast.ClassDef)]
    answer["source"] = "\n".join(map(ast.unparse, others_use)) + source
    return json.dumps(notebook)


def honest(number: int) -> dict:
    """Right answers, and no other learner's."""
    notebook = worked()
    answer = answer_to(notebook, "memory_monitoring")
    answer["source"] = f"# {number}\n" + "".join(answer["source"])
    return notebook


@pytest.mark.parametrize("chosen", TRIED)
def test_wrong_work_gains_nothing_and_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests, chosen: Isolation
):
    monkeypatch.setenv(SWITCH, chosen)
    monkeypatch.setenv("COURSE_PASSWORD", SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "grades").mkdir()
    for number, hostile in enumerate(TRIED[chosen]):
        place = tmp_path / "class" / f"{number:02} {hostile.tries}"
        place.mkdir(parents=True)
        (place / LESSON).write_text(notebook_of(hostile, tmp_path / "outside"), encoding="utf-8")
        for name, text in hostile.beside.items():
            (place / name).write_text(text)
        if number % 8 == 0:
            hand_in(tmp_path / "class" / f"{number:02} a neighbour", notebook=honest(number))
    agent = (ROOT / "src" / "learning" / "agent.py").read_bytes()
    isolation.cache_clear()
    try:
        if isolation() is not chosen:
            pytest.skip(f"there is no {chosen} here")
        graded = rows(batch.grade(tmp_path / "class", tmp_path / "grades", lessons=[1], runner=on_this_machine(4)))
    finally:
        isolation.cache_clear()

    for number, hostile in enumerate(TRIED[chosen]):
        with subtests.test(hostile.tries):
            row = graded[f"{number:02} {hostile.tries}"]
            assert float(row["memory_monitoring"]) < 10, row["remarks"]
            assert row["custom_memory_lru"] == "10.0", row["remarks"]
            assert hostile.says in row["remarks"]
    with subtests.test("neighbours lose nothing"):
        neighbours = [row for name, row in graded.items() if name.endswith("a neighbour")]
        assert {(row["total"], row["remarks"]) for row in neighbours} == {("20.0", "")}
    with subtests.test("nothing is written or known outside"):
        assert (ROOT / "src" / "learning" / "agent.py").read_bytes() == agent
        assert list((tmp_path / "outside").iterdir()) == []
        assert sorted(path.name for path in tmp_path.iterdir()) == ["class", "grades", "outside"]
        for path in filter(Path.is_file, (tmp_path / "grades").rglob("*")):
            assert SECRET.encode() not in path.read_bytes(), path
            assert path.stat().st_size < 500_000, path
    with subtests.test("pages run nothing"):
        pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "grades").rglob("*.html")]
        assert any("&lt;script&gt;alert(1)" in page for page in pages)
        assert not any("<script" in page or "<img" in page for page in pages)


def test_the_bank_is_large_enough():
    assert len({hostile.tries for hostile in HOSTILE}) == len(HOSTILE) >= 40


def test_without_isolation_each_mark_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SWITCH, Isolation.NONE)
    isolation.cache_clear()
    hand_in(tmp_path / "class" / "ana")
    try:
        graded = rows(batch.grade(tmp_path / "class", tmp_path / "grades", lessons=[1]))
    finally:
        isolation.cache_clear()

    assert "was judged without isolation" in graded["ana"]["remarks"]
    assert "can read and change whatever you can" in (tmp_path / "grades" / "report.html").read_text()
    assert graded["ana"]["total"] == "20.0"
    assert os.environ[SWITCH] == "none"
