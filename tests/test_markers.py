"""Tests that start a JVM have the marker ``spark``, so that ``make unit`` starts none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SESSION = "from pyspark.sql import SparkSession; SparkSession.builder.getOrCreate()"


def test_tests_with_a_session_are_marked(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        if "spark" in getattr(item, "fixturenames", ()):
            assert item.get_closest_marker("spark") is not None, item.nodeid


@pytest.mark.parametrize("command", [["java", "-version"], [sys.executable, "-c", SESSION]])
def test_a_jvm_is_refused_and_recorded(command: list[str], refusing_java: Path) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode != 0
    assert "started a JVM without the marker spark" in result.stderr
    started = refusing_java / "bin" / "started"
    assert started.exists()
    started.unlink()  # otherwise this test fails too
