"""submit.sh as a person runs it: processes of their own, the real zip, the status passed on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest
from deltalake import DeltaTable

import pool3
from tests.conftest import REPOSITORY, free_port
from tests.jobs.killed_job import killed_at_its_first_file
from tests.jobs.test_build_index import varied_vectors, write_table


def submit(*words: str, expected: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [REPOSITORY / "submit.sh", *words],
        env={**os.environ, "POOL3_PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.returncode == expected, result.stderr[-3000:]
    return result


def report_of(result: subprocess.CompletedProcess[str]) -> dict[str, object]:
    report: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return report


def test_help_lists_each_job_and_profile() -> None:
    text = submit("--help").stdout
    for file in (REPOSITORY / "jobs").glob("[a-z]*.py"):
        assert file.stem.replace("_", "-") in text
    for file in (REPOSITORY / "conf").glob("*.conf"):
        assert f"  {file.stem}\n" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["no-such-job"], "no-such-job"),
        (["--profile", "moon", "build-index"], "moon"),
        (["--profile", "../conf/local", "build-index"], "../conf/local"),
        (["--profile", "standalone", "build-index"], "POOL3_SPARK_MASTER"),
        (["../evil"], "../evil"),
        ([], "usage"),
    ],
)
def test_what_cannot_be_submitted_is_told(words: list[str], told: str) -> None:
    result = submit(*words, expected=2, POOL3_SPARK_MASTER="")
    assert told in result.stderr


@pytest.mark.spark
def test_a_job_from_the_shell_to_a_search(tmp_path: Path) -> None:
    vectors = varied_vectors(40)
    features = write_table(tmp_path / "fé atures", [f"{n:02d}" for n in range(40)], vectors)
    index = str(tmp_path / "index")
    result = submit("build-index", "--features", features, "--index", index, "--n-shards", "2")
    report = report_of(result)
    assert (report["outcome"], report["snapshot_id"]) == ("done", 1)
    assert json.loads(Path(index + ".report.json").read_text()) == report
    assert "+ " in result.stderr
    assert "--py-files" in result.stderr
    assert pool3.open(index).search(vectors[7], k=3).ids[0] == "07"


@pytest.mark.spark
def test_the_exit_status_is_passed_on(tmp_path: Path) -> None:
    where = tmp_path / "report.json"
    result = submit(
        "build-index", "--features", str(tmp_path), "--index", str(tmp_path / "index"),
        "--report", str(where), expected=2,
    )  # fmt: skip
    assert report_of(result)["outcome"] == "usage"
    assert json.loads(where.read_text()) == report_of(result)
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "index").exists()


@pytest.mark.slow
@pytest.mark.spark
def test_the_zip_on_executors_in_processes_of_their_own(
    tmp_path: Path, photos: Path, colour_model: str
) -> None:
    """`local-cluster` starts a master and two workers; nothing but the zip brings our code."""
    output = str(tmp_path / "features")
    result = submit(
        "extract-features", "--input", str(photos), "--output", output, "--model", colour_model,
        "--max-failed", "1",
        SPARK_SUBMIT_OPTIONS="--master local-cluster[2,1,1024]", PYTHONPATH="",
    )  # fmt: skip
    report = report_of(result)
    assert report["counts"] == {"ok": 11, "failed": 2, "skipped": 0, "gone": 0}
    assert report["model_loads"] == report["workers"]
    index = str(tmp_path / "index")
    submit(
        "build-index", "--features", output, "--index", index, "--n-shards", "2",
        SPARK_SUBMIT_OPTIONS="--master local-cluster[2,1,1024]", PYTHONPATH="",
    )  # fmt: skip
    assert len(pool3.open(index).search(photos / "a:b.jpg", k=20)) == 11


@pytest.mark.slow
@pytest.mark.spark
def test_a_run_killed_before_its_commit_leaves_the_table_as_it_was(
    tmp_path: Path, photos: Path, colour_model: str
) -> None:
    output = tmp_path / "features"
    words = ["extract-features", "--input", str(photos), "--output", str(output)]
    words += ["--model", colour_model, "--max-failed", "1"]
    submit(*words)
    before = DeltaTable(str(output)).to_pyarrow_table()
    # The parts are stored, the commit has not come: the moment of the most damage.
    again = [*words, "--mode", "overwrite"]
    killed_at_its_first_file(again, output, "*.parquet", tmp_path / "log")
    table = DeltaTable(str(output))
    assert table.version() == 0
    assert table.to_pyarrow_table().equals(before)
    submit(*words)
    after = DeltaTable(str(output)).to_pyarrow_table()
    assert sorted(after["image_id"].to_pylist()) == sorted(before["image_id"].to_pylist())


@pytest.fixture
def standalone_master(tmp_path: Path) -> Iterator[str]:
    """A Spark standalone cluster: one master, one worker, each a process of its own."""
    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    port = free_port()
    url = f"spark://127.0.0.1:{port}"
    package = "org.apache.spark.deploy"
    commands = [
        [f"{package}.master.Master", "--host", "127.0.0.1", "--port", str(port)],
        [f"{package}.worker.Worker", "--host", "127.0.0.1", "-c", "2", "-m", "3g", url],
    ]
    environment = {
        **os.environ,
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "SPARK_WORKER_DIR": str(tmp_path / "work"),
    }
    with (tmp_path / "cluster.log").open("wb") as log:
        processes = [
            subprocess.Popen([spark_class, *words], env=environment, stdout=log, stderr=log)
            for words in commands
        ]
        try:
            yield url
        finally:
            for process in processes:
                process.terminate()
                process.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.spark
def test_the_profile_standalone_on_a_real_cluster(
    tmp_path: Path, photos: Path, colour_model: str, standalone_master: str
) -> None:
    result = submit(
        "--profile", "standalone", "extract-features", "--input", str(photos),
        "--output", str(tmp_path / "features"), "--model", colour_model,
        "--max-failed", "1",
        POOL3_SPARK_MASTER=standalone_master, PYTHONPATH="",
    )  # fmt: skip
    assert report_of(result)["counts"] == {"ok": 11, "failed": 2, "skipped": 0, "gone": 0}
