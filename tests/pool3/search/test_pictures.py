from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import pool3
import pool3.search.pictures
from pool3.engines import loads
from pool3.errors import InvalidIndex, ModelError, UsageError
from pool3.images.decode import decode_resized
from pool3.models.directory import with_colour
from tests.pool3.images.test_profiles import P3, matrix_profile, p3_of


class FakeModel:
    """A model whose features are a picture's mean colour and its top left pixel."""

    model_id = "mean-colour"
    input_size = 8
    resize = "pil-bilinear"
    colour = "srgb"
    graph = b"a graph"
    graph_sha256 = "of the graph"

    @staticmethod
    def engine(pictures):
        assert pictures.dtype == np.uint8
        assert pictures.shape[1:] == (8, 8, 3)
        means = pictures.reshape(len(pictures), -1, 3).mean(axis=1)
        return np.hstack([means, pictures[:, 0, 0]]).astype(np.float32)


@pytest.fixture
def pictures(tmp_path) -> dict[str, Path]:
    paths = {}
    for name, colour in {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (9, 9, 250)}.items():
        paths[name] = tmp_path / f"{name}.png"
        picture = Image.new("RGB", (40, 30), colour)
        picture.paste((0, 0, 0), (20, 0, 40, 30))
        picture.save(paths[name])
    return paths


@pytest.fixture
def picture_index(make_index, pictures, monkeypatch):
    """An index of three pictures, searched with `FakeModel`."""
    monkeypatch.setattr(pool3.search.pictures, "read_model", lambda _uri: FakeModel)
    monkeypatch.setattr(
        pool3.search.pictures, "cached_engine", lambda *_args, **_options: FakeModel.engine
    )
    inputs = [np.asarray(Image.open(path).resize((8, 8), 2)) for path in pictures.values()]
    return pool3.open(
        make_index(
            FakeModel.engine(np.stack(inputs)),
            ids=[str(path) for path in pictures.values()],
            model=("mean-colour", "models/mean-colour"),
        )
    )


def test_every_form_of_a_picture(picture_index, pictures):
    path = pictures["green"]
    image = Image.open(path)
    forms = [
        str(path),
        path,
        path.read_bytes(),
        bytearray(path.read_bytes()),
        image,
        image.convert("RGBA"),
        np.asarray(image),
        np.asarray(image)[::1, ::1, ::-1][..., ::-1],
    ]
    for form in forms:
        hits = picture_index.search(form, k=2)
        assert hits.ids[0] == str(path)
        assert hits.distances[0] < 1e-6
        assert hits.query is not None
        assert hits.query.size == (40, 30)
    assert picture_index.search_bytes(path.read_bytes(), k=1).ids == [str(path)]


def test_a_query_is_prepared_as_the_model_says(picture_index, pictures, monkeypatch):
    grey = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    file = io.BytesIO()
    with Image.open(pictures["red"]) as picture:
        p3_of(picture).save(file, "PNG", icc_profile=matrix_profile(P3))
        unusable = picture.copy()
        unusable.info["icc_profile"] = grey
    assert picture_index.search(unusable, k=1).distances[0] < 1e-6
    forms = [file.getvalue(), Image.open(file)]
    for form in forms:
        hits = picture_index.search(form, k=1)
        assert hits.ids == [str(pictures["red"])]
        assert hits.distances[0] < 1e-4
    monkeypatch.setattr(FakeModel, "colour", "ignored")
    for form in forms:
        assert picture_index.search(form, k=1).distances[0] > 1e-3


def test_several_at_once(picture_index, pictures):
    queries = [pictures["blue"], pictures["red"].read_bytes(), np.ones(6)]
    several = picture_index.search(queries, k=1)
    assert [hits.ids[0] for hits in several[:2]] == [
        str(pictures["blue"]),
        str(pictures["red"]),
    ]
    assert several[2].ids == picture_index.search(np.ones(6), k=1).ids
    assert several[2].query is None
    assert picture_index.search(tuple(queries[:1]), k=1)[0].ids == several[0].ids
    assert picture_index.search([]) == []


def test_a_turned_photo_is_set_upright(picture_index, pictures):
    turned = Image.open(pictures["red"]).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    opened = Image.open(io.BytesIO(file.getvalue()))
    for form in (file.getvalue(), opened):
        hits = picture_index.search(form, k=1)
        assert hits.query.size == (40, 30)
        assert hits.distances[0] < 1e-6


def test_what_is_no_picture(picture_index, tmp_path):
    with pytest.raises(pool3.PictureError, match="not_an_image"):
        picture_index.search(b"nonsense")
    with pytest.raises(pool3.NotFound, match=r"nowhere\.jpg"):
        picture_index.search(tmp_path / "nowhere.jpg")


def test_foreign_vectors_have_no_model(make_index, pictures):
    index = pool3.open(make_index(np.eye(3)))
    with pytest.raises(UsageError, match=r"without their model.*by vector or by image_id"):
        index.search(pictures["red"])


def test_another_model_in_its_place_is_refused(picture_index, pictures, monkeypatch):
    monkeypatch.setattr(FakeModel, "model_id", "another")
    with pytest.raises(InvalidIndex, match="must hold the model mean-colour; found another"):
        picture_index.search(pictures["red"])


def test_a_copy_that_claims_the_id_of_the_index_is_refused(make_index, pictures, seeded):
    claimed = "5" * 64
    directory = make_index(
        np.ones((3, 2048), np.float32), ids=list("abc"), model=(claimed, f"models/{claimed}")
    )
    copy = directory / "models" / claimed
    model = seeded
    model.write(str(copy))
    path = copy / "model.json"
    path.write_text(path.read_text().replace(model.model_id, claimed))
    with pytest.raises(ModelError, match=f"{claimed} in {copy}, .* of model {model.model_id}"):
        pool3.open(directory).search(pictures["red"])


@pytest.mark.parametrize("colour", ["srgb", "ignored"])
def test_pictures_with_profiles_find_their_originals(
    make_index, shared_data, seeded, engine, colour
):
    """Not with the features of tables that ignore profiles, which is why those keep to it."""
    folder = shared_data.parent / "cases" / "icc"
    if not folder.is_dir():
        pytest.skip("no pictures in ../shared/cases")
    model = with_colour(seeded, colour)
    paths = sorted(folder.glob("*_srgb.png")) + sorted(shared_data.glob("flowers/*/*.jpg"))[::40]
    inputs = [
        decode_resized(
            path.read_bytes(), size=model.input_size, resize=model.resize, colour=model.colour
        ).rgb
        for path in paths
    ]
    relative = f"models/{model.model_id}"
    directory = make_index(
        engine(np.stack(inputs)),
        ids=[path.name for path in paths],
        model=(model.model_id, relative),
    )
    model.write(f"{directory}/{relative}")
    index = pool3.open(directory)
    distances = {}
    for path in sorted({*folder.iterdir()} - {*paths}):
        hits = index.search(path, k=4)
        distances[path.name] = hits.distances[0]
        if colour == "srgb":
            assert hits.ids[0] == f"{path.name[:3]}_srgb.png"
    assert (max(distances["003_p3.png"], distances["005_p3.png"]) < 0.005) == (colour == "srgb")


def test_the_real_model_from_the_index_s_own_copy(make_index, tmp_path, seeded, engine):
    """The same picture gives the same vector, whoever runs the model; it is loaded once."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((320, 240)).save(path)
    model = seeded
    inputs = [
        decode_resized(path.read_bytes(), size=model.input_size, resize=model.resize).rgb
        for path in paths
    ]
    relative = f"models/{model.model_id}"
    directory = make_index(
        np.concatenate([engine(picture[None]) for picture in inputs]),
        ids=[str(path) for path in paths],
        model=(model.model_id, relative),
    )
    model.write(f"{directory}/{relative}")
    before = loads()
    index = pool3.open(directory)
    index.search_id(str(paths[0]))
    assert loads() == before  # searching by id needs no engine
    for path, hits in zip(paths, index.search(paths, k=4), strict=True):
        assert hits.ids[0] == str(path)
        assert hits.distances[0] < hits.distances[1] / 10
    assert loads() <= before + 1
    before = loads()
    assert index.search(paths[0], k=1).ids == [str(paths[0])]
    assert loads() == before
