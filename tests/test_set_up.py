"""What the set-up installs: little for the demo, at the versions of the full lock file."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


def versions(lock: str) -> set[str]:
    """Return the ``name==version`` of a lock file's lines."""
    return set(re.findall(r"^[a-z0-9-]+==[^ ;]+", (REPOSITORY / lock).read_text(), re.MULTILINE))


def test_the_demo_installs_a_part_of_what_the_tests_install() -> None:
    runtime = versions("requirements-runtime.lock")
    assert runtime < versions("requirements.lock")
    names = {line.split("==")[0] for line in runtime}
    assert {"pyspark", "openvino", "pillow", "deltalake", "setuptools"} <= names
    assert not names & {"tensorflow-cpu", "keras", "pytest", "mypy", "mkdocs", "matplotlib"}


@pytest.mark.parametrize("lock", ["requirements-notebook.lock", "requirements-bench.lock"])
def test_no_lock_file_has_another_version_of_a_package(lock: str) -> None:
    full, other = versions("requirements.lock"), versions(lock)
    names = {line.split("==")[0] for line in full}
    assert {line for line in other if line.split("==")[0] in names} <= full


def test_the_folder_above_a_clone_does_not_hide_the_package(tmp_path: Path) -> None:
    """A clone's own folder is named pool3, too, and has no __init__.py."""
    (tmp_path / "pool3").mkdir()
    code = "import pool3; print(pool3.open.__name__)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.stdout == "open_index\n", result.stderr


def test_the_editable_install_is_a_path() -> None:
    """An import hook would come after the folders of sys.path; mypy does not follow it either."""
    files = distribution("pool3").files or []
    paths = [file for file in files if file.name.endswith(".pth")]
    assert [file.read_text().strip() for file in paths] == [str(REPOSITORY)]
