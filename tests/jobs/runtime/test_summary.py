from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.runtime.prometheus import prometheus_text
from jobs.runtime.report import Report
from jobs.runtime.summary import summary_text
from pool3.features.schema import PERMANENT_ERRORS, TRANSIENT_ERRORS

LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
SAMPLE = re.compile(rf"(pool3_[a-z_]+)\{{({LABEL}(?:,{LABEL})*)\}} (-?\d+(?:\.\d+)?(?:e[+-]\d+)?)")


def report(**fields: object) -> Report:
    return Report(job="extract-features", run_id="20260131T235959-1a2b3c4d", **fields)  # type: ignore[arg-type]


def full() -> Report:
    return report(
        counts={"ok": 98_000, "failed": 2_000, "skipped": 1_234_567, "gone": 4},
        errors={"truncated": 500, "not_an_image": 1_500},
        seconds={"startup": 3.0, "decode": 400.0, "inference": 9000.0, "wait": 0.0, "total": 61.5},
        steady_images_per_s=1234.56,
        cpu_s_per_image=0.0181,
        model_id="abc",
        warnings=["a note"],
        details={
            "slowest": [{"uri": "s3://lake/slow.tif", "seconds": 12.25}],
            "largest": [{"uri": "s3://lake/large.tif", "bytes": 99_000_000, "pixels": 49_000_000}],
            "remaining": 5000,
        },
    )


def test_a_person_reads_counts_reasons_speed_and_the_worst_pictures() -> None:
    assert summary_text(full()).splitlines() == [
        "extract-features 20260131T235959-1a2b3c4d: done, exit status 0",
        "  pictures  98,000 ok, 2,000 failed, 1,234,567 skipped, 4 gone",
        "  remaining 5,000: run the same command again",
        "  reasons   not_an_image               1,500    1.50%",
        "            truncated                    500    0.50%",
        "  speed     1,234.6 pictures/s, 18.1 ms of CPU a picture",
        "  time      startup 3.0 s, decode 6.7 min, inference 2.5 h, total 61.5 s",
        "  slowest   12.2 s  s3://lake/slow.tif",
        "  largest   99,000,000 bytes, 49,000,000 pixels  s3://lake/large.tif",
        "  warnings  a note",
    ]


def test_a_failed_run_says_why() -> None:
    lines = summary_text(report(exit_code=1, error="expected a bucket\nfound none")).splitlines()
    assert lines[0].endswith("failed, exit status 1")
    assert lines[1] == r"  error     expected a bucket\nfound none"
    assert lines[2:] == ["  pictures  0 ok, 0 failed, 0 skipped, 0 gone"]


def test_the_worst_run_is_still_short_and_no_reason_is_lost() -> None:
    codes = sorted(PERMANENT_ERRORS | TRANSIENT_ERRORS)
    worst = full()
    worst.exit_code, worst.error = 3, "x" * 5000
    worst.errors = {code: 10**number for number, code in enumerate(codes)}
    worst.counts["failed"] = sum(worst.errors.values())
    worst.warnings = ["w" * 5000] * 40
    for name in ("slowest", "largest"):
        worst.details[name] = [{"uri": "u" * 5000, "bytes": 1, "pixels": 1, "seconds": 1.0}] * 20
    lines = summary_text(worst).splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 400
    start = next(n for n, line in enumerate(lines) if line.startswith("  reasons"))
    shown = [line[12:].split() for line in lines[start : start + 9]]
    assert sum(int(count.replace(",", "")) for _, count, _ in shown) == worst.counts["failed"]
    assert [code for code, *_ in shown[:8]] == codes[::-1][:8]


texts = st.text(st.characters(exclude_categories=[]), max_size=200)


@given(texts, texts, texts)
def test_nothing_that_is_shown_commands_a_terminal(uri: str, error: str, warning: str) -> None:
    found = report(exit_code=1, error=error, warnings=[warning])
    found.details["slowest"] = [{"uri": uri, "seconds": 1.0}]
    lines = summary_text(found).splitlines()
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 5
    "\n".join(lines).encode()


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What promtool checks: each metric in one group after its HELP and TYPE, no sample twice."""
    assert text.endswith("\n")
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    lines = text.split("\n")[:-1]
    name = ""
    for line in lines:
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in found
            found[name] = []
            assert len(line.split(" ", 3)[3]) > 3
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {name} gauge"
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == name
            labels = {
                one.partition("=")[0]: _unescaped(value)
                for one, value in ((m[0], m[1]) for m in re.finditer(LABEL, match[2]))
            }
            found[name].append((labels, float(line.rpartition(" ")[2])))
    keys = Counter((name, tuple(labels.items())) for name in found for labels, _ in found[name])
    assert max(keys.values()) == 1
    assert all(found.values())
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)


def test_prometheus_reads_the_run() -> None:
    found = samples(prometheus_text(full(), finished_at_s=1_800_000_000.5))
    job = {"job": "extract-features"}
    about = {"run_id": "20260131T235959-1a2b3c4d", "outcome": "done", "model_id": "abc"}
    assert found["pool3_run_info"] == [({**job, **about}, 1)]
    assert found["pool3_run_exit_code"] == [(job, 0)]
    assert found["pool3_run_finished_timestamp_seconds"] == [(job, 1_800_000_000.5)]
    assert ({**job, "status": "skipped"}, 1_234_567) in found["pool3_run_pictures"]
    assert ({**job, "code": "truncated"}, 500) in found["pool3_run_errors"]
    assert ({**job, "phase": "total"}, 61.5) in found["pool3_run_seconds"]
    assert found["pool3_run_images_per_second"] == [(job, 1234.56)]
    assert found["pool3_run_cpu_seconds_per_image"] == [(job, 0.0181)]
    assert found["pool3_run_remaining"] == [(job, 5000)]
    assert found["pool3_run_warnings"] == [(job, 1)]


def test_what_a_run_does_not_know_is_left_out() -> None:
    found = samples(prometheus_text(report(exit_code=1, error="no")))
    assert found["pool3_run_exit_code"][0][1] == 1
    assert not {"pool3_run_images_per_second", "pool3_run_errors", "pool3_run_remaining"} & set(
        found
    )


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0), max_size=5)
)
@pytest.mark.filterwarnings("error")
def test_labels_survive_whatever_they_hold(errors: dict[str, int]) -> None:
    found = samples(prometheus_text(report(errors=errors)))
    told = {labels["code"]: value for labels, value in found.get("pool3_run_errors", [])}
    assert told == {code: float(count) for code, count in errors.items()}
