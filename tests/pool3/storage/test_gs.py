"""Google's storage: odd keys hide no other ones.

No emulator of Google's is at hand: `gs_server` is a stand-in of our own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pool3 import storage
from pool3.errors import NotFound, StorageError
from tests.conftest import REPOSITORY
from tests.pool3.storage.gs_server import KEYS, NOT_SENT, SENT


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.pool3.storage.gs_server"]
    server = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    account = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "",
               "private_key_id": ""}  # fmt: skip
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account))
    monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", url)
    yield "gs://lake"
    server.kill()
    server.wait()
    server.stdout.close()


def test_odd_keys_do_not_hide_other_ones_and_are_read_or_named(lake: str) -> None:
    listed = [entry.uri for entry in storage.list_objects(f"{lake}/odd")]
    assert sorted(listed) == [f"{lake}/{key}" for key in KEYS]
    assert storage.is_directory(f"{lake}/odd")
    for key in SENT:
        uri = f"{lake}/{key}"
        assert storage.fetch(uri) == key.encode()
        assert storage.exists(uri)
        assert [(o.uri, o.size) for o in storage.list_objects(uri)] == [(uri, len(key.encode()))]
    for key in NOT_SENT:
        with pytest.raises(StorageError, match=r"an empty, '\.' or '\.\.' segment"):
            storage.fetch(f"{lake}/{key}")
    with pytest.raises(NotFound):
        storage.fetch(f"{lake}/odd/no\tne.jpg")
