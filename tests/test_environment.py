"""What is declared, what is pinned and what is installed agree, for pip and for conda."""

import ast
import platform
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, requires, version

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from learning.course.tasks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MINORS = ("3.11", "3.12", "3.13")
PYTHONS = ("3.11.0", "3.11.2", "3.11.14", "3.12.0", "3.13.0")
"""Debian 12 has 3.11.2, for which some packages need an older release."""

HERE = platform.python_version()
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(line) for line in PROJECT["dependencies"] + EXTRAS["test"]]
OPTIONAL = {canonicalize_name(Requirement(line).name) for line in EXTRAS["s3"] + EXTRAS["bench"] + EXTRAS["browser"]}
OPTIONAL |= {"aiosqlite", "sqlite-vec", "greenlet"}  # what these bring along
OPTIONAL -= {canonicalize_name(each.name) for each in REQUIREMENTS}
"""Pinned, and not installed by `make`."""

LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
PINS = [Requirement(line) for line in LINES]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def pinned(python: str, system: str = sys.platform) -> dict[str, str]:
    """The version pinned for each package on one Python."""
    environment = {
        **default_environment(),
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "sys_platform": system,
    }
    pins = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(environment)]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert len(versions) == len(pins), f"a package is pinned twice for Python {python}"
    return versions


def test_a_pin_is_one_exact_version_and_no_address():
    pin = re.compile(r"[a-z0-9-]+==[\w.]+(; [a-z_]+ (<|==|>=) \"[\w.]+\")?")
    assert [line for line in LINES if not pin.fullmatch(line)] == []


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_declared_is_pinned_to_a_version_it_allows(python, system):
    pins = pinned(python, system)
    unmet = [str(each) for each in REQUIREMENTS if pins.get(canonicalize_name(each.name), "") not in each.specifier]
    assert unmet == []


def test_what_is_pinned_is_what_is_installed():
    pins = pinned(HERE)
    assert {name: version(name) for name in pins if name not in OPTIONAL} == {
        name: pin for name, pin in pins.items() if name not in OPTIONAL
    }


def test_every_package_installed_for_the_project_is_pinned():
    needed, waiting = set(), [*REQUIREMENTS]
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in needed:
            needed.add(key)
            waiting += needs(requirement)
    assert {name for name, _ in needed} | OPTIONAL == set(pinned(HERE))


def needs(requirement: Requirement) -> list[Requirement]:
    """What an installed package requires here, with the extras that are asked of it."""
    extras = requirement.extras or {""}
    candidates = [Requirement(line) for line in requires(requirement.name) or []]
    return [
        each
        for each in candidates
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def test_what_the_package_and_its_tests_import_is_declared():
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py"), ROOT / "test_learning_03.py"]
    imported = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    providers = packages_distributions()
    declared = {canonicalize_name(each.name) for each in REQUIREMENTS} | OPTIONAL
    undeclared = {
        name
        for name in imported - sys.stdlib_module_names - {"learning", "tests", "test_learning_03"}
        if declared.isdisjoint(map(canonicalize_name, [name, *providers.get(name, [])]))
    }
    assert undeclared == set()


def test_conda_has_the_same_pythons():
    assert SpecifierSet(Requirement(CONDA[0]).specifier) == SpecifierSet(PROJECT["requires-python"])


def test_conda_installs_with_pip_what_make_installs():
    lines = next(each["pip"] for each in CONDA if isinstance(each, dict))
    assert lines == ["-c constraints.txt", "-e .[test]"]  # on one line, pip would ignore the constraints
    assert " ".join(lines) in (ROOT / "Makefile").read_text().replace("'", "")


def test_make_looks_for_every_python_that_is_supported():
    listed = re.search(r"^PYTHONS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert sorted(listed) == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in allowed] == list(MINORS)


def test_the_build_backend_is_pinned():
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert [str(Requirement(each).specifier)[:2] for each in backend] == ["=="]
