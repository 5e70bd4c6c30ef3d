"""The worked savers of lesson 4 are savers: alone, and stacked on each other, they pass the official suite."""

import asyncio
from pathlib import Path
from tempfile import mkdtemp

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from prometheus_client import CollectorRegistry

from learning.course.answers import Answers
from learning.course.conformance import examine
from learning.course.tasks import ROOT


@pytest.fixture(scope="module")
def worked():
    """The worked answers of lesson 4, by name."""
    return Answers(ROOT / "solutions" / "04_custom_storage.ipynb")


@pytest.mark.parametrize("form", ["alone", "cached", "monitored", "hot and cold", "all of them"])
def test_a_file_saver_and_its_wrapped_forms_pass_the_official_suite(worked, tmp_path: Path, form: str):
    names = ("FileSaver", "CachedSaver", "MonitoredSaver", "HybridSaver")
    files, cached, monitored, hybrid = (worked.load(name) for name in names)

    def make():
        saver = files(mkdtemp(dir=tmp_path))
        match form:
            case "cached":
                return cached(saver, 100, 60)
            case "monitored":
                return monitored(saver, CollectorRegistry())
            case "hot and cold":
                return hybrid(InMemorySaver(), saver)
            case "all of them":
                return monitored(cached(hybrid(InMemorySaver(), saver), 100, 60), CollectorRegistry())
        return saver

    report = asyncio.run(examine(make))
    assert report.failures == []
    assert sum(report.passed.values()) == 58
