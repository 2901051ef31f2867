from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pool3.errors import PictureError, Pool3Error, UsageError
from pool3.gallery import draw_scene
from pool3.images.decode import DecodeLimits, Picture, decode_resized
from pool3.images.pool import DecodePool

FAULTY = "tests.pool3.images.decoder_faults:faulty"
LIMITS = DecodeLimits(max_pixels=20_000, max_bytes=50_000)


def picture(number: int, size: tuple[int, int] = (60, 40), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    draw_scene(number, size=size).save(file, kind)
    return file.getvalue()


def codes(outcomes: Iterator[tuple[object, Picture | PictureError]]) -> list[str]:
    return [outcome.code if isinstance(outcome, PictureError) else "ok" for _, outcome in outcomes]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(processes=2, size=32, resize="pil-bilinear", limits=LIMITS) as pool:
        yield pool


@pytest.fixture(scope="module")
def faulty_pool() -> Iterator[DecodePool]:
    with DecodePool(
        processes=2, size=32, resize="pil-bilinear", function=FAULTY, timeout_s=20
    ) as pool:
        yield pool


def same(outcome: Picture | PictureError, data: bytes, limits: DecodeLimits | None = None) -> bool:
    try:
        expected = decode_resized(data, size=32, resize="pil-bilinear", limits=limits)
    except PictureError as error:
        expected_error = (error.code, error.detail)
        return (
            isinstance(outcome, PictureError) and (outcome.code, outcome.detail) == expected_error
        )
    assert isinstance(outcome, Picture)
    actual = (outcome.width, outcome.height, outcome.format)
    return actual == (expected.width, expected.height, expected.format) and np.array_equal(
        outcome.rgb, expected.rgb
    )


files = st.one_of(
    st.binary(max_size=64),
    st.builds(
        picture,
        st.integers(0, 5),
        st.tuples(st.integers(20, 200), st.integers(20, 200)),
        st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]),
    ),
    st.builds(lambda cut: picture(1)[:cut], st.integers(0, 400)),
    st.just(b"\0" * 60_000),
)


@given(st.lists(files, max_size=12))
@settings(max_examples=25)
def test_every_item_comes_out_once_in_order_as_in_process_decoding_gives_it(
    pool: DecodePool, data: list[bytes]
) -> None:
    outcomes = list(pool.decode(enumerate(data)))
    assert [key for key, _ in outcomes] == list(range(len(data)))
    assert all(
        same(outcome, file, LIMITS) for (_, outcome), file in zip(outcomes, data, strict=True)
    )


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::Warning:PIL")
def test_real_and_odd_pictures_come_out_as_in_process_decoding_gives_them(
    shared_data: Path,
) -> None:
    paths = sorted(path for path in (shared_data / "odd").rglob("*") if path.is_file())
    paths += sorted((shared_data / "posters").rglob("*.jpg"))[:60]
    with DecodePool(processes=2, size=32, resize="pil-bilinear") as pool:
        outcomes = list(pool.decode((path, path.read_bytes()) for path in paths))
    assert [path for path, _ in outcomes] == paths
    assert [path for path, outcome in outcomes if not same(outcome, path.read_bytes())] == []


def test_pictures_are_the_consumers_to_keep(pool: DecodePool) -> None:
    [(_, first)] = pool.decode([(0, picture(1))])
    assert isinstance(first, Picture)
    before = first.rgb.copy()
    list(pool.decode([(n, picture(2)) for n in range(4)]))
    assert np.array_equal(first.rgb, before)
    assert first.rgb.flags.writeable


def test_slow_pictures_do_not_change_the_order(faulty_pool: DecodePool) -> None:
    waits = ["0.2", "0", "0.1", "0", "0.05", "0"]
    outcomes = faulty_pool.decode((wait, b"sleep:" + wait.encode()) for wait in waits)
    assert [
        (key, outcome.detail) for key, outcome in outcomes if isinstance(outcome, PictureError)
    ] == [(wait, wait) for wait in waits]


def test_few_items_are_taken_ahead_of_the_consumer(pool: DecodePool) -> None:
    taken = 0

    def items() -> Iterator[tuple[int, bytes]]:
        nonlocal taken
        for key in range(1000):
            taken += 1
            yield key, picture(1)

    outcomes = pool.decode(items())
    assert taken == 0
    for consumed in range(1, 20):
        next(outcomes)
        assert consumed < taken <= consumed + 8
    outcomes.close()
    assert codes(pool.decode([(0, picture(1))])) == ["ok"]


def test_few_bytes_are_taken_ahead_of_the_consumer(pool: DecodePool) -> None:
    taken = 0

    def items() -> Iterator[tuple[int, bytes]]:
        nonlocal taken
        for key in range(20):
            taken += 1
            yield key, bytes(40 * 2**20)

    assert next(pool.decode(items()))[0] == 0
    assert taken == 2


def test_a_failing_source_of_items_is_the_consumers_error(pool: DecodePool) -> None:
    def items() -> Iterator[tuple[int, bytes]]:
        yield 0, picture(1)
        raise OSError("the lake is gone")

    with pytest.raises(OSError, match="the lake is gone"):
        list(pool.decode(items()))
    assert codes(pool.decode([(0, picture(1))])) == ["ok"]


def test_pixels_in_flight_are_bounded_and_a_larger_picture_runs_alone() -> None:
    sizes = [40, 50, 60, 45, 30, 250, 40, 70, 20, 250, 60, 50]
    with DecodePool(
        processes=4,
        size=8,
        resize="pil-bilinear",
        function=FAULTY,
        memory_limit_bytes=4 * 2**30,
        in_flight_pixels=100_000_000,
    ) as pool:
        items = [(None, b"pixels:%d000000" % size) for size in sizes]
        spans = [
            tuple(float(word) for word in outcome.detail.split())
            for _, outcome in pool.decode(items)
            if isinstance(outcome, PictureError)
        ]
    assert [pixels / 1e6 for pixels, _, _ in spans] == sizes
    together = 0
    for _, moment, _ in spans:
        at_once = [pixels for pixels, start, end in spans if start <= moment < end]
        assert sum(at_once) <= 100e6 or len(at_once) == 1
        together = max(together, len(at_once))
    assert together >= 2


def test_it_tells_the_time_that_decoding_took(faulty_pool: DecodePool) -> None:
    seconds, cpu = faulty_pool.seconds, faulty_pool.cpu_s
    list(faulty_pool.decode([(0, b"sleep:0.3"), (1, b"sleep:0.3")]))
    assert 0.6 <= faulty_pool.seconds - seconds < 5
    assert 0 <= faulty_pool.cpu_s - cpu < 0.3


def test_decoders_load_little(faulty_pool: DecodePool) -> None:
    [(_, outcome)] = faulty_pool.decode([(0, b"where")])
    assert isinstance(outcome, PictureError)
    loaded = set(outcome.detail.split())
    assert {"numpy", "PIL"} <= loaded
    assert not loaded & {"pyarrow", "pandas", "obstore", "tensorflow", "pyspark", "multiprocessing"}


@pytest.mark.parametrize(
    "options", [{"processes": 0}, {"timeout_s": 0.0}, {"resize": "nearest"}, {"size": 0}]
)
def test_impossible_pools_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        DecodePool(**({"processes": 1, "size": 8, "resize": "pil-bilinear"} | options))  # type: ignore[arg-type]


def test_a_closed_pool_says_so_and_leaves_nothing() -> None:
    names, descriptors = os.listdir("/dev/shm"), os.listdir("/proc/self/fd")
    with DecodePool(processes=2, size=8, resize="pil-bilinear") as pool:
        pids = pool.pids
        assert codes(pool.decode([(0, picture(1))])) == ["ok"]
    pool.close()
    with pytest.raises(Pool3Error, match="closed"):
        list(pool.decode([(0, picture(1))]))
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert os.listdir("/dev/shm") == names
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)


@pytest.mark.slow  # processes with pictures that fill their memory
@pytest.mark.parametrize("kind", ["PNG", "JPEG2000", "JPEG"])
def test_pixels_that_do_not_fit_into_memory_are_that_pictures_error(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (5000, 4000)).save(file, kind)
    with DecodePool(
        processes=1, size=32, resize="pil-bilinear", memory_limit_bytes=100 * 2**20
    ) as pool:
        pid = pool.pids
        large, small = (
            outcome for _, outcome in pool.decode([(0, file.getvalue()), (1, picture(1))])
        )
        assert isinstance(large, PictureError)
        assert large.code == "too_many_pixels"
        assert "memory" in large.detail
        assert same(small, picture(1))
        assert pool.pids == pid


EXIF = Image.Exif()
EXIF[0x0112] = 6
TURNED = EXIF.tobytes()


@pytest.mark.slow  # processes with large pictures
@pytest.mark.parametrize(
    ("mode", "kind", "options", "counts"),
    [
        ("RGB", "JPEG", {"exif": TURNED}, 1),
        ("L", "JPEG", {"exif": TURNED}, 1),
        ("RGB", "JPEG", {"progressive": True, "subsampling": 0, "exif": TURNED}, 2),
        ("CMYK", "JPEG", {"exif": TURNED}, 2),
        ("RGBA", "PNG", {"exif": TURNED, "compress_level": 1}, 2),
        ("F", "TIFF", {"exif": TURNED}, 2),
        ("RGBA", "WEBP", {"method": 0, "exif": TURNED}, 2),
        ("RGB", "AVIF", {"speed": 10, "exif": TURNED}, 2),
        ("P", "GIF", {}, 2),
        ("RGBA", "JPEG2000", {}, 3),
    ],
)
def test_memory_follows_the_pixels_in_flight(
    mode: str, kind: str, options: dict[str, object], counts: int
) -> None:
    pixels, file = 2400 * 1600, io.BytesIO()
    draw_scene(1, size=(240, 160)).resize((2400, 1600)).convert(mode).save(file, kind, **options)
    announced: list[int] = []
    decode_resized(file.getvalue(), size=32, resize="pil-bilinear", admit=announced.append)
    assert announced == [counts * pixels]
    with DecodePool(processes=1, size=32, resize="pil-bilinear") as pool:
        list(pool.decode([(0, picture(1, kind="JPEG"))]))
        before = peak_bytes(pool.pids[0])
        [(_, outcome)] = pool.decode([(0, file.getvalue())])
        assert isinstance(outcome, Picture)
        used = peak_bytes(pool.pids[0]) - before - 2 * len(file.getvalue())
    assert used <= 9.5 * counts * pixels


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])
