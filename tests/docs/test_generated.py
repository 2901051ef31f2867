"""Pages that are made from the code say what the code says."""

from __future__ import annotations

from docs.generate.architecture import PLACES, architecture_svg
from docs.generate.imports import between_rooms, floors, room_of, without_implied
from docs.generate.options import job_names
from docs.generate.pages import stale
from tests.conftest import REPOSITORY


def test_they_are_up_to_date() -> None:
    old = [path.relative_to(REPOSITORY).as_posix() for path in stale()]
    assert old == [], "these are not what the code says now; run `make docs-generate`"


def test_the_picture_has_every_room_of_the_library() -> None:
    picture = architecture_svg()
    for floor in floors("pool3"):
        for room in floor:
            assert f"pool3.{room}" in PLACES
            assert f">pool3/{room}" in picture


def test_no_arrow_of_the_picture_leads_up() -> None:
    at = {f"pool3.{room}": floor for floor, rooms in enumerate(floors("pool3")) for room in rooms}
    edges = {(a, b) for a, b in between_rooms() if a in at and b in at}
    assert edges
    assert all(at[start] < at[end] for start, end in edges)


def test_what_follows_from_other_arrows_is_left_out() -> None:
    edges = frozenset({("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")})
    assert without_implied(edges) == {("a", "b"), ("b", "c"), ("a", "d")}


def test_a_module_lies_in_its_room() -> None:
    assert room_of("pool3.index.shards.tree") == "pool3.index"
    assert room_of("jobs.build_index") == "jobs/*.py"
    assert room_of("jobs.steps.index.build") == "jobs.steps"
    assert room_of("udfs.search") == "udfs"


def test_the_site_lists_every_job() -> None:
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    for job in job_names():
        assert f"reference/jobs/{job}.md" in navigation
