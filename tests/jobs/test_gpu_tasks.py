"""A task takes the GPU that Spark gave it, and is an error where it was promised one in vain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import extract_features
from jobs.extract_features import ExtractConfig
from jobs.steps.extract import run
from pool3.storage.tables import open_table
from tests.conftest import REPOSITORY


@pytest.mark.slow
@pytest.mark.spark
def test_tasks_see_the_gpu_of_their_resources_alone(tmp_path: Path) -> None:
    script = tmp_path / "discovery.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0"]}\'\n')
    script.chmod(0o755)
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-m", "tests.jobs.gpu_session", str(script)],
        cwd=REPOSITORY,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    assert json.loads(result.stdout.splitlines()[-1]) == [["0", "0"], ["0", "0"]]


def test_a_task_without_the_gpu_it_was_promised_is_an_error(
    spark: SparkSession,
    photos: Path,
    colour_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = run._settings
    # Spark itself would not start tasks without a GPU; this is the check behind it.
    monkeypatch.setattr(run, "_settings", lambda *found: replace(settings(*found), gpu=True))
    config = ExtractConfig(input=str(photos), output=str(tmp_path / "table"), model=colour_model)
    with pytest.raises(Exception, match="expected a GPU for this task, found none"):
        extract_features.run(spark, config)
    assert open_table(config.output) is None
