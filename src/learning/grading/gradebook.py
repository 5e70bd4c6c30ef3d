"""The marks of a class for other programs: a table, Gradescope's results, and JUnit's report."""

import csv
import io
import json
import re
from collections.abc import Collection
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from learning.course.verdict import Behaviour, Verdict

from .marks import graded_tasks

if TYPE_CHECKING:
    from .batch import Graded

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def tasks_of(lessons: Collection[int]) -> list[str]:
    """The tasks of some lessons, in their order."""
    return [task.name for lesson in lessons for task in graded_tasks(lesson)]


def as_csv(graded: "list[Graded]", lessons: Collection[int]) -> bytes:
    """The gradebook: a row for each learner, a column for each task."""
    tasks = tasks_of(lessons)
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(["learner", *tasks, "total", "out of", "percent", "late days", "flags", "remarks"])
    for each in graded:
        earned = [each.points(task) for task in tasks]
        of = round(sum(each.rules.out_of(task) for task in tasks), 2)
        late = max((marks.late_days for marks in each.lessons.values()), default=0)
        flags = sum(len(judged.flags) for judged in each.judged.values())
        total = round(sum(earned), 2)
        percent = round(100 * total / of, 1) if of else 0.0
        table.writerow(
            [_as_cell(each.learner), *earned, total, of, percent, late, flags, _as_cell("; ".join(each.remarks))]
        )
    return file.getvalue().encode("utf-8", errors="backslashreplace")


def as_gradescope(learner: "Graded", lessons: Collection[int]) -> bytes:
    """What Gradescope's autograder reads from `results.json`: one test for each task, with what to tell the learner."""
    tests = []
    for task in tasks_of(lessons):
        judged = learner.judged.get(task)
        tests.append(
            {
                "name": task,
                "score": learner.points(task),
                "max_score": learner.rules.out_of(task),
                "status": "passed" if judged and judged.verdict.outcome == "passed" and judged.trusted else "failed",
                "output": as_text(judged.verdict) if judged else "not handed in",
                "visibility": "visible",
            }
        )
    seconds = sum(judged.seconds for judged in learner.judged.values())
    told = {"score": round(sum(test["score"] for test in tests), 2), "execution_time": round(seconds), "tests": tests}
    return json.dumps(told, indent=1, ensure_ascii=True).encode()


def as_junit(graded: "list[Graded]", lessons: Collection[int]) -> bytes:
    """JUnit's XML: a suite for each learner, a case for each behaviour of a task."""
    root = ElementTree.Element("testsuites")
    for learner in graded:
        suite = ElementTree.SubElement(root, "testsuite", name=_xml(learner.learner))
        counts = dict.fromkeys(("tests", "failures", "skipped"), 0)
        for task in tasks_of(lessons):
            judged = learner.judged.get(task)
            none = [Behaviour("handed in", "not attempted")]
            for each in (judged.verdict.behaviours if judged else none) or none:
                case = ElementTree.SubElement(suite, "testcase", classname=task, name=_xml(each.name))
                counts["tests"] += 1
                if each.outcome == "failed" or (judged and not judged.trusted):
                    counts["failures"] += 1
                    ElementTree.SubElement(case, "failure", message=_xml(each.idea or "flagged")).text = _xml(
                        "\n".join(f"{label}: {text}" for label, text in _told(each) if text)
                    )
                elif each.outcome != "passed":
                    counts["skipped"] += 1
                    ElementTree.SubElement(case, "skipped", message=each.outcome)
        suite.attrib.update({name: str(count) for name, count in counts.items()})
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def as_text(verdict: Verdict) -> str:
    """A verdict in plain text."""
    lines = [verdict.reason] if verdict.reason else []
    for each in verdict.behaviours:
        lines.append(f"{'✓' if each.outcome == 'passed' else '✗' if each.outcome == 'failed' else '○'} {each.name}")
        lines += [f"    {label}: {text}" for label, text in _told(each) if text and each.outcome == "failed"]
    return "\n".join(lines)


def _told(each: Behaviour) -> list[tuple[str, str]]:
    return [("expected", each.expected), ("came", each.came), ("why", each.idea), ("where", each.where)]


def _xml(text: str) -> str:
    return NOT_IN_XML.sub("�", text)


def _as_cell(text: str) -> str:
    """Text that a spreadsheet shows and does not calculate."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
