from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pool3.errors import PictureError
from pool3.gallery import draw_scene
from pool3.images.decode import Picture, decode
from pool3.images.pool import DecodePool
from pool3.images.worker import DecoderNotStarted

# Processes that crash, hang and are killed.
pytestmark = pytest.mark.slow

FAULTY = "tests.pool3.images.decoder_faults:faulty"
REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("pictures") / "good.png"
    draw_scene(1, size=(60, 40)).save(path)
    return path.read_bytes()


def faulty_pool(**options: Any) -> DecodePool:
    settings: dict[str, Any] = {"processes": 2, "timeout_s": 20.0} | options
    return DecodePool(size=8, resize="pil-bilinear", function=FAULTY, **settings)


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        (b"signal:11", "was ended by SIGSEGV"),
        (b"signal:9", "was ended by SIGKILL"),
        (b"signal:6", "was ended by SIGABRT"),
        (b"exit:0", "exited with status 0"),
        (b"exit:7", "exited with status 7"),
        (b"raise", "exited with status 1"),
        (b"garbage", "the decoder sent an invalid message"),
    ],
)
def test_a_crash_costs_one_picture_and_its_process_is_replaced(
    good: bytes, fault: bytes, detail: str
) -> None:
    with faulty_pool() as pool:
        before = pool.pids
        items = [(n, fault if n in {3, 4} else good) for n in range(10)]
        outcomes = list(pool.decode(items))
        after = pool.pids
    assert [key for key, _ in outcomes] == list(range(10))
    for key, outcome in outcomes:
        if key in {3, 4}:
            assert isinstance(outcome, PictureError)
            assert outcome.code == "decoder_crashed"
            assert detail in outcome.detail
        else:
            assert isinstance(outcome, Picture)
    assert before != after
    assert not any(Path(f"/proc/{pid}").exists() for pid in before + after)


@pytest.mark.parametrize("fault", [b"spin", b"sleep:60"])
def test_a_hang_costs_one_picture_and_its_process_is_replaced(good: bytes, fault: bytes) -> None:
    with faulty_pool(timeout_s=1.0) as pool:
        started = time.monotonic()
        outcomes = [outcome for _, outcome in pool.decode(enumerate([good, fault, good, good]))]
        took = time.monotonic() - started
    assert [getattr(outcome, "code", "ok") for outcome in outcomes] == ["ok", "timeout", "ok", "ok"]
    assert 1.0 <= outcomes[1].seconds < 3.0
    assert 1 <= took < 15


def descriptors() -> set[str]:
    """Return what this process has open, pipes and sockets by their own numbers."""
    targets = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that listed them
            targets.add(os.readlink(f"/proc/self/fd/{name}"))
    return targets


def test_nothing_is_left_behind_by_crashes_and_hangs(good: bytes) -> None:
    # What other tests left may be closed meanwhile: connections that are idle, garbage.
    names, before = sorted(os.listdir("/dev/shm")), descriptors()
    with faulty_pool(timeout_s=0.5) as pool:
        list(pool.decode(enumerate([good, good])))
        while_open = len(descriptors() - before)
        assert while_open
        list(pool.decode(enumerate([b"signal:9", good, b"spin", b"exit:1", good] * 2)))
        pids = pool.pids
        assert len(descriptors() - before) == while_open
    assert sorted(os.listdir("/dev/shm")) == names
    assert not descriptors() - before
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_memory_beyond_the_limit_is_that_pictures_error(good: bytes) -> None:
    with faulty_pool(memory_limit_bytes=300 * 2**20) as pool:
        orders = [b"memory:%d" % (100 * 2**20), b"memory:%d" % (400 * 2**20), good]
        within, beyond, after = (outcome for _, outcome in pool.decode(enumerate(orders)))
    assert isinstance(within, PictureError)
    assert "were to be had" in within.detail
    assert isinstance(beyond, PictureError)
    assert beyond.code == "too_many_pixels"
    assert isinstance(after, Picture)


@pytest.mark.parametrize("function", ["nowhere:nothing", "pool3.images.decode:nothing"])
def test_decoders_that_cannot_start_are_one_clear_error(good: bytes, function: str) -> None:
    started = time.monotonic()
    with (
        DecodePool(processes=2, size=8, resize="pil-bilinear", function=function) as pool,
        pytest.raises(DecoderNotStarted, match="exited with status 1"),
    ):
        list(pool.decode([(0, good), (1, good)]))
    assert time.monotonic() - started < 30


def test_a_damaged_picture_fills_no_log_and_an_error_of_ours_does(
    capfd: pytest.CaptureFixture[str],
) -> None:
    damaged = damaged_tiff()
    with pytest.raises(PictureError):
        decode(damaged)
    assert "LZWDecode" in capfd.readouterr().err  # it is such a picture
    with faulty_pool(processes=1) as pool:
        outcomes = [outcome for _, outcome in pool.decode(enumerate([damaged, b"raise"]))]
    assert [getattr(outcome, "code", "ok") for outcome in outcomes] == [
        "corrupt",
        "decoder_crashed",
    ]
    written = capfd.readouterr().err
    assert "LZWDecode" not in written
    assert "RuntimeError: not an error of the picture" in written


def damaged_tiff() -> bytes:
    """A TIFF of which libtiff complains to stderr."""
    file = io.BytesIO()
    draw_scene(1, size=(60, 40)).save(file, "TIFF", compression="tiff_lzw")
    data = bytearray(file.getvalue())
    data[20:200] = bytes(180)
    return bytes(data)


def test_closing_does_not_wait_for_a_hanging_picture(good: bytes) -> None:
    with faulty_pool(timeout_s=300.0) as pool:
        outcomes = pool.decode(enumerate([good, b"spin", b"spin", b"spin", good]))
        assert isinstance(next(outcomes)[1], Picture)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    outcomes.close()


def _decode_in_a_daemon(queue: Any, good: bytes) -> None:
    with faulty_pool() as pool:
        outcomes = [outcome for _, outcome in pool.decode(enumerate([good, b"signal:11", good]))]
    queue.put([getattr(outcome, "code", "ok") for outcome in outcomes])


def test_a_forked_daemonic_process_may_have_a_pool(good: bytes) -> None:
    forking = multiprocessing.get_context("fork")
    queue = forking.Queue()
    process = forking.Process(target=_decode_in_a_daemon, args=(queue, good), daemon=True)
    process.start()
    assert queue.get(timeout=60) == ["ok", "decoder_crashed", "ok"]
    process.join(20)
    assert process.exitcode == 0


IN_A_ZIP = """
import sys
sys.path[:0] = sys.argv[1:3]  # while it runs, as Spark does
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
from pool3.images.pool import DecodePool
with DecodePool(processes=1, size=8, resize="pil-bilinear", function="where:where") as pool:
    [(_, outcome)] = pool.decode([(0, b"where")])
print(outcome.detail)
raise SystemExit("pool3" not in sys.modules or "where" in sys.modules)
"""


def test_decoders_run_from_the_zip_that_their_parent_runs_from(tmp_path: Path) -> None:
    archive = tmp_path / "application.zip"
    command = [sys.executable, REPOSITORY / "conf" / "application_zip.py", REPOSITORY, archive]
    subprocess.run(command, check=True)
    (tmp_path / "where.py").write_text(
        "import pool3\nfrom pool3.errors import PictureError\n"
        "def where(data, **_):\n    raise PictureError('corrupt', pool3.__file__)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        [sys.executable, "-c", IN_A_ZIP, archive, tmp_path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.strip() == str(archive / "pool3" / "__init__.py")


PARENT = """
import os, signal, sys
from pool3.images.pool import DecodePool
pool = DecodePool(processes=2, size=8, resize="pil-bilinear", function=sys.argv[1], timeout_s=1)
list(pool.decode([(0, b"?"), (1, b"?"), (2, b"?")]))
outcomes = pool._submit(b"spin")
print(*pool.pids, flush=True)
signal.pause()
"""


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def orphans() -> Iterator[list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, FAULTY], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    process.kill()
    process.wait()
    process.stdout.close()
    yield pids
    for pid in filter(_running, pids):
        os.kill(pid, signal.SIGKILL)


def test_decoders_do_not_outlive_a_parent_that_was_killed(orphans: list[int]) -> None:
    assert len(orphans) == 2
    deadline = time.monotonic() + 20
    while any(map(_running, orphans)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_running, orphans))
