from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pool3.errors import Pool3Error
from pool3.features import lease
from pool3.features.lease import active_lease, leased


def test_a_second_run_fails_and_names_the_holder(tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    with leased(table, run_id="r1", job="extract-features"):
        assert active_lease(table) is not None
        with (
            pytest.raises(Pool3Error, match=r"run r1 of extract-features .* is writing") as error,
            leased(table, run_id="r2", job="extract-features"),
        ):
            pass
        assert error.value.exit_code == 1
    assert active_lease(table) is None
    with leased(table, run_id="r3", job="compact-features") as third:
        assert third.number == 2


def test_a_lease_is_released_when_its_run_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), leased(str(tmp_path), run_id="r", job="j"):
        raise ValueError("broken")
    assert active_lease(str(tmp_path)) is None


def test_the_lease_of_a_killed_process_of_this_host_expires_immediately(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pool3.features.lease import leased\n"
        f"with leased({str(tmp_path)!r}, run_id='r', job='j'):\n"
        "    print('active_lease', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"active_lease\n"
    assert active_lease(str(tmp_path)) is not None
    process.kill()
    process.wait()
    assert active_lease(str(tmp_path)) is None


def elsewhere(table: Path) -> None:
    """Change the host of the newest lease to another one, whose processes are not visible."""
    newest = max((table / "_pool3" / "leases").glob("*.json"))
    fields = json.loads(newest.read_text())
    newest.write_text(json.dumps({**fields, "host": "another"}))


def test_a_lease_of_another_host_expires_after_its_last_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(lease, "STALE_S", 0.5)
    with leased(str(tmp_path), run_id="r", job="j"):
        elsewhere(tmp_path)
        time.sleep(0.8)
        assert active_lease(str(tmp_path)) is not None  # its heartbeat is recent
        next((tmp_path / "_pool3" / "leases").glob("*.heartbeat")).write_text("0")
        monkeypatch.setattr(lease, "_last_heartbeat", lambda *_: time.time() - 1)
        assert active_lease(str(tmp_path)) is None


def test_of_two_runs_that_start_at_the_same_time_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leased(str(tmp_path), run_id="first", job="j"):
        monkeypatch.setattr(
            lease, "_newest", lambda _: None
        )  # the other run looked before this one started
        with (
            pytest.raises(Pool3Error, match="run first"),
            leased(str(tmp_path), run_id="second", job="j"),
        ):
            pass
