"""What is loaded from a notebook: the answers and what they need, never the experiments beside them."""

import dataclasses
import json
from pathlib import Path

import nbformat
import pytest

from learning.course.answers import Answers, Unusable


def notebook(folder: Path, *cells: str, answers: tuple[int, ...] = ()) -> Answers:
    """A notebook of these code cells; those whose place is in `answers` are tagged."""
    path = folder / "01_memory.ipynb"
    made = [
        nbformat.v4.new_code_cell(source, metadata={"tags": ["answer"] if place in answers else []})
        for place, source in enumerate(cells)
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return Answers(path)


def test_an_answer_brings_the_imports_and_helpers_it_needs_from_other_cells(tmp_path: Path):
    answers = notebook(
        tmp_path,
        "import math",
        "def half(x):\n    return math.floor(x / TWO)",
        "TWO = 2",
        "def quarter(x):\n    return half(half(x))",
    )

    assert answers.load("quarter")(41) == 10


def test_experiments_are_not_run(tmp_path: Path):
    answers = notebook(
        tmp_path,
        "raise RuntimeError('an experiment')",
        "while True:\n    pass",
        "def answer():\n    return 42\n\nanswer(1, 2, 3)\nwhile True:\n    pass",
        "import no_such_module",
    )

    assert answers.load("answer")() == 42


def test_a_tagged_cell_wins_over_a_later_experiment(tmp_path: Path):
    answers = notebook(
        tmp_path, "def answer():\n    return 'answer'", "def answer():\n    return 'experiment'", answers=(0,)
    )

    assert answers.load("answer")() == "answer"


def test_without_tags_the_last_definition_wins_as_in_a_kernel(tmp_path: Path):
    answers = notebook(tmp_path, "def answer():\n    return 'first'", "def answer():\n    return 'last'")

    assert answers.load("answer")() == "last"


def test_a_tagged_cell_that_is_still_as_it_came_gives_way_to_the_learners_own(tmp_path: Path):
    starter = "def answer():\n    raise NotImplementedError  # some_task: your code here"
    answers = notebook(tmp_path, starter, "def answer():\n    return 42", answers=(0,))

    assert answers.load("answer")() == 42
    assert answers.passed_over("answer") is None


def test_a_definition_below_the_tagged_one_is_told_as_passed_over(tmp_path: Path):
    sources = ["def answer():\n    return 'answer'", "def other():\n    pass", "def answer():\n    return 'experiment'"]
    answers = notebook(tmp_path, *sources, answers=(0,))

    assert answers.passed_over("answer") == "01_memory.ipynb, cell 3"
    assert answers.passed_over("other") is None


def test_a_definition_that_builds_on_the_tagged_one_counts(tmp_path: Path):
    answers = notebook(tmp_path, "class Answer:\n    a = 1", "class Answer(Answer):\n    b = 2", answers=(0,))

    assert (answers.load("Answer").a, answers.load("Answer").b) == (1, 2)
    assert answers.passed_over("Answer") is None


def test_a_cell_copied_with_its_tag_counts_once(tmp_path: Path):
    answers = notebook(tmp_path, *["def answer():\n    return 42"] * 2, answers=(0, 1))

    assert answers.load("answer")() == 42


def test_what_changes_an_object_after_its_definition_is_run_too(tmp_path: Path):
    answers = notebook(
        tmp_path,
        "STEPS = {}\nSTEPS['a'] = 1\n\nclass Answer:\n    pass\n\nAnswer.total = sum(STEPS.values())",
        "class Registry(list):\n    def add(self, f):\n        self.append(f)\n        return f\n\n"
        "registry = Registry()\n\n@registry.add\ndef one():\n    return 1",
    )

    assert answers.load("Answer").total == 1
    assert [step() for step in answers.load("registry")] == [1]


@pytest.mark.parametrize(
    "fill",
    [
        "for key in 'ab':\n    TABLE[key] = ord(key)",
        "TABLE.update(a=97, b=98)",
        "if True:\n    TABLE.setdefault('a', 97)\n    TABLE |= {'b': 98}",
    ],
)
def test_a_table_that_is_filled_in_its_cell_is_full(tmp_path: Path, fill: str):
    answers = notebook(tmp_path, f"TABLE = {{}}\n{fill}", "def answer():\n    return TABLE")

    assert answers.load("answer")() == {"a": 97, "b": 98}


def test_a_counter_that_a_function_only_adds_to_is_found(tmp_path: Path):
    answers = notebook(tmp_path, "CALLS = 0", "def answer():\n    global CALLS\n    CALLS += 1")

    answers.load("answer")()
    assert answers.load("CALLS") == 1


@pytest.mark.parametrize("patch", ["Answer.get = get", "setattr(Answer, 'get', get)"])
def test_a_method_that_a_later_cell_gives_to_a_class_is_there(tmp_path: Path, patch: str):
    answers = notebook(
        tmp_path, "class Answer:\n    pass", f"def get(self):\n    return Answer, 42\n\n{patch}", answers=(0,)
    )

    assert answers.load("Answer")().get()[1] == 42


@pytest.mark.parametrize(
    "anew",
    ["class Answer(Answer):\n    b = 2", "def with_b(cls):\n    cls.b = 2\n    return cls\n\nAnswer = with_b(Answer)"],
)
def test_a_definition_may_build_on_an_earlier_one_of_the_same_name(tmp_path: Path, anew: str):
    answers = notebook(tmp_path, "class Answer:\n    a = 1", "class Answer(Answer):\n    c = 3", anew)

    answer = answers.load("Answer")
    assert (answer.a, answer.b, answer.c) == (1, 2, 3)


def test_an_earlier_attempt_that_fails_harms_no_later_one_that_names_itself(tmp_path: Path):
    answers = notebook(
        tmp_path, "class Answer:\n    1 / 0", "class Answer:\n    def again(self):\n        return Answer()"
    )

    assert answers.load("Answer")().again()


def test_a_local_name_does_not_pull_in_an_experiment_of_that_name(tmp_path: Path):
    answers = notebook(
        tmp_path, "config = 1 / 0", "def answer(items):\n    config = 1\n    return [config + item for item in items]"
    )

    assert answers.load("answer")([1]) == [2]


def test_ipython_syntax_is_no_obstacle(tmp_path: Path):
    answers = notebook(
        tmp_path,
        "%matplotlib inline\n!ls\nimport math",
        "%%time\nx = ?\n",
        "%%time\ndef answer():\n    return math.pi",
        "\n\n%%time\ndef answer_below_blank_lines():\n    return math.pi",
        "%%writefile answer.py\ndef answer():\n    return 0",
    )

    assert round(answers.load("answer")(), 2) == 3.14
    assert round(answers.load("answer_below_blank_lines")(), 2) == 3.14


def test_a_dataclass_with_postponed_annotations_loads(tmp_path: Path):
    answers = notebook(
        tmp_path,
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Alert:\n    level: str\n    next: Alert | None = None",
    )

    assert dataclasses.asdict(answers.load("Alert")("ok")) == {"level": "ok", "next": None}


def test_what_a_notebook_allows_at_its_top_level_is_allowed_here(tmp_path: Path):
    answers = notebook(
        tmp_path,
        "import asyncio\n\nasync def fetch():\n    await asyncio.sleep(0)\n    return 42\n\nFOUND = await fetch()\n\n"
        "def answer():\n    display(FOUND)\n    return FOUND\n\nawait fetch()",
    )

    assert answers.load("answer")() == 42


def test_cells_without_what_a_cell_has_are_passed_by(tmp_path: Path):
    path = tmp_path / "01_memory.ipynb"
    broken = [{}, None, [], {"cell_type": "code"}, {"cell_type": "code", "source": None}, {"source": "1 / 0"}]
    cells = [*broken, {"cell_type": "code", "source": ["def answer():\n", "    return 42"], "metadata": None}]
    path.write_text(json.dumps({"cells": cells}))

    assert Answers(path).load("answer")() == 42


@pytest.mark.parametrize("source", ["x = '\0'", "(" * 5000 + ")" * 5000, "\ud800", "def f(:\r\n\tpass"])
def test_a_cell_that_python_cannot_read_harms_no_other(tmp_path: Path, source: str):
    path = tmp_path / "01_memory.ipynb"
    cells = [{"cell_type": "code", "source": each} for each in (source, "def answer():\r\n\treturn 42")]
    path.write_text(json.dumps({"cells": cells}))

    assert Answers(path).load("answer")() == 42


def test_names_from_a_star_import_are_found(tmp_path: Path):
    answers = notebook(tmp_path, "from collections import *", "def answer():\n    return OrderedDict(a=1)")

    assert answers.load("answer")() == {"a": 1}


def test_a_syntax_error_is_told_with_its_cell_and_line(tmp_path: Path):
    answers = notebook(tmp_path, "def other():\n    return 1", "def answer(:\n    pass")

    with pytest.raises(Unusable, match=r"01_memory.ipynb, cell 2, line 1: .*\n.*def answer\(:"):
        answers.load("answer")
    assert answers.load("other")() == 1


def test_a_helper_in_a_broken_cell_is_told_by_the_cell_and_not_as_a_missing_name(tmp_path: Path):
    answers = notebook(tmp_path, "def half(x:\n    return x / 2", "SIZE = half(4)\n\ndef answer():\n    return SIZE")

    with pytest.raises(Unusable, match="cell 1, line 1"):
        answers.load("answer")


@pytest.mark.parametrize("source", ["if False:\n    def answer(): pass", "def answer(): pass\n\ndel answer"])
def test_a_definition_that_leaves_nothing_is_told_so(tmp_path: Path, source: str):
    with pytest.raises(Unusable, match="cell 1 does define answer, but"):
        notebook(tmp_path, source).load("answer")


def test_an_annotation_alone_defines_nothing(tmp_path: Path):
    with pytest.raises(KeyError):
        notebook(tmp_path, "answer: type").load("answer")


def test_a_syntax_error_counts_no_more_once_the_cell_has_run_mended(tmp_path: Path):
    answers = notebook(tmp_path, "def answer(:\n    pass", "def answer():\n    return 42")

    assert answers.load("answer")() == 42


def test_a_broken_answer_is_not_replaced_by_an_experiment(tmp_path: Path):
    answers = notebook(tmp_path, "def answer(:\n    pass", "def answer():\n    return 'experiment'", answers=(0,))

    with pytest.raises(Unusable):
        answers.load("answer")


def test_an_error_at_definition_is_told_with_its_line(tmp_path: Path):
    answers = notebook(tmp_path, "import no_such_module\n\ndef answer():\n    return no_such_module.x")

    with pytest.raises(Unusable, match=r"cell 1, line 1: import no_such_module raised ModuleNotFoundError"):
        answers.load("answer")


def test_a_name_that_nothing_defines_is_a_key_error_and_a_misspelling_is_found(tmp_path: Path):
    answers = notebook(tmp_path, "class LRUMemorysaver:\n    pass")

    with pytest.raises(KeyError):
        answers.load("LRUMemorySaver")
    assert answers.resembling("LRUMemorySaver") == "LRUMemorysaver"
    assert answers.resembling("MemoryMonitor") is None


@pytest.mark.parametrize("content", ["", "not json", "[]", "{}", '{"cells": 3}'])
def test_a_file_that_is_no_notebook_is_told_so(tmp_path: Path, content: str):
    path = tmp_path / "01_memory.ipynb"
    path.write_text(content)

    with pytest.raises(Unusable, match="cannot be read as a notebook"):
        Answers(path)
