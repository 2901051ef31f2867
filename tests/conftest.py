"""Fixtures that every part of the test suite shares."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from pool3.engines import Engine
    from pool3.models import ModelDirectory

REPOSITORY = Path(__file__).resolve().parent.parent

_REFUSING_JAVA = """\
#!/bin/sh
echo "this test started a JVM without the marker spark: $*" >&2
echo "$*" >> "$(dirname "$0")/started"
exit 1
"""


def pytest_configure() -> None:
    """Set what all tests run with."""
    # The second compiler costs the short-lived JVMs of the tests more than it wins: two fifths of
    # the processor time of tests that build indexes.
    os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    # The matrices of tests are small: a second thread of NumPy costs more than it wins, and Spark's
    # two workers would have four. NumPy reads this when it is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # How long an example may take depends on what else the machine does, and says nothing here.
    settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("tests")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the session of Spark, before `-m` selects by markers."""
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.spark)


@pytest.fixture(scope="session")
def refusing_java(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Java home whose java only records its arguments in ``bin/started``."""
    home = tmp_path_factory.mktemp("java")
    (home / "bin").mkdir()
    (home / "bin" / "java").write_text(_REFUSING_JAVA)
    (home / "bin" / "java").chmod(0o755)
    return home


@pytest.fixture(autouse=True)
def no_jvm(
    request: pytest.FixtureRequest, refusing_java: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Fail a test that starts a JVM, in this process or in another one, without the marker."""
    if request.node.get_closest_marker("spark") is not None:
        yield
        return
    monkeypatch.setenv("JAVA_HOME", str(refusing_java))
    monkeypatch.setenv("PATH", f"{refusing_java / 'bin'}{os.pathsep}{os.environ['PATH']}")
    yield
    started = refusing_java / "bin" / "started"
    if started.exists():
        words = started.read_text()
        started.unlink()
        pytest.fail(f"this test started a JVM; mark it with spark: {words}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures and vectors, kept beside the repository and never inside it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not (folder / "MANIFEST.csv").is_file():
        pytest.skip("no real pictures in ../shared/data")
    return folder


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 protocol server on loopback, in a process of its own."""
    port = free_port()
    log = tmp_path_factory.mktemp("s3") / "server.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail(f"the S3 server did not start: {log.read_text()}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def s3_bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket of that server, which the environment leads to."""
    import boto3

    environment = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"lake-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1").create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


def upload(folder: Path, uri: str) -> None:
    """Store every file below a local folder under a folder of a bucket."""
    from pool3 import storage

    for path in folder.rglob("*"):
        if path.is_file():
            storage.put_file(f"{uri}/{path.relative_to(folder).as_posix()}", path)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """Real Spark in this machine: a JVM, and Python workers in processes of their own."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    session = (
        SparkSession.builder.master("local[2]")
        .appName("tests")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")  # small tables; the default is 200
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC")
        # Compiling a query costs more than it wins on few rows; tests of submit.sh do compile.
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture(scope="session", autouse=True)
def cache_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests' cache apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOL3_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def seeded_model_drawn_once() -> Iterator[None]:
    """Draw the seeded model once in this process: that takes a second, and nothing changes it."""
    from pool3.models.sources import seeded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeded, "seeded_model", cache(seeded.seeded_model))
        yield


@pytest.fixture(scope="session")
def seeded() -> ModelDirectory:
    """The seeded model."""
    from pool3.models import load_model

    return load_model("seeded")


@pytest.fixture(scope="session")
def engine(seeded: ModelDirectory) -> Engine:
    """The seeded model on the engine and in the precision that jobs choose on this machine."""
    from pool3.engines import load_engine

    return load_engine(seeded.graph, threads=2)


@pytest.fixture(scope="session")
def demo_folder(
    tmp_path_factory: pytest.TempPathFactory, seeded: ModelDirectory, engine: Engine
) -> Path:
    """A folder with build/demo/pictures and build/demo/index, as `make demo` leaves it."""
    from tests.small_index import build_demo

    folder = tmp_path_factory.mktemp("checkout")
    build_demo(folder, seeded, engine)
    return folder
