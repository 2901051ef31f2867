"""Pictures per second from files to features, five ways, on the same photos in one run.

usage: python -m benchmarks.extract PICTURES [--limit N] [--rounds N] [--json FILE]

(a) single    one `session.run` a picture on the frozen graph, one process, as scripts do it
(b) spark     Spark's documented way: predict_batch_udf with the Keras model, fp32
(c) pool3 tf  the extract-features job with TensorFlow
(d) pool3 ov  the extract-features job with OpenVINO
(e) ceiling   decoding and each engine in one process, overlapped, no Spark

Each way runs in a process of its own, which stays for all rounds. Start-up is set aside the same
way everywhere: every way first runs a few pictures, in the same workers, and is then timed on all
of them by the clock on the wall. In a round the ways take turns, so that what else the machine does
meets them all; ratios are taken within each round, and the table gives the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).resolve().parent.parent
CORES = len(os.sched_getaffinity(0))
WARM_UP = 64
BATCH = 16

Timed = Callable[[list[str]], None]


def photos(folder: str, limit: int | None) -> list[str]:
    """Return the JPEG and PNG files below a folder, sorted."""
    from pool3 import storage

    endings = (".jpg", ".jpeg", ".png")
    uris = sorted(found.uri for found in storage.list_objects(storage.canonical_uri(folder)))
    return [uri for uri in uris if uri.lower().endswith(endings)][:limit]


def links(folder: Path, uris: Iterable[str]) -> Path:
    """Make a folder of links to some photos."""
    folder.mkdir()
    for number, uri in enumerate(uris):
        (folder / f"{number:06d}{Path(uri).suffix}").symlink_to(uri)
    return folder


def single() -> Timed:
    """Way (a)."""
    from pool3.engines import load_engine
    from pool3.images.decode import decode_resized
    from pool3.models import load_model

    model = load_model("seeded")
    engine = load_engine(model.graph, name="tensorflow", precision="float32", threads=CORES)

    def run(uris: list[str]) -> None:
        for uri in uris:
            picture = decode_resized(
                Path(uri).read_bytes(),
                size=model.input_size,
                resize=model.resize,
                colour=model.colour,
            )
            engine(picture.rgb[None])

    return run


def spark_documented() -> Timed:
    """Way (b): binaryFile, a pandas UDF that decodes, predict_batch_udf with Keras."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    spark = session()
    weights = tempfile.mkdtemp() + "/inception.keras"
    keras_file(weights)

    def make_predict() -> Callable[[Any], Any]:
        import keras

        model = keras.models.load_model(weights)
        return lambda inputs: model.predict(inputs / 127.5 - 1.0, verbose=0)

    @F.pandas_udf(T.ArrayType(T.FloatType()))
    def decoded(contents: pd.Series) -> pd.Series:
        import io

        from PIL import Image

        def pixels(data: bytes) -> np.ndarray:
            image = Image.open(io.BytesIO(data)).convert("RGB")
            small = image.resize((299, 299), Image.Resampling.BILINEAR)
            return np.asarray(small, np.float32).reshape(-1)

        return contents.map(pixels)

    predict = predict_batch_udf(
        make_predict,
        return_type=T.ArrayType(T.FloatType()),
        batch_size=BATCH,
        input_tensor_shapes=[[299, 299, 3]],
    )

    def run(uris: list[str]) -> None:
        # binaryFile takes no list of a thousand paths gracefully; a folder of links it reads well.
        with tempfile.TemporaryDirectory() as folder:
            for number, uri in enumerate(uris):
                (Path(folder) / f"{number:06d}.jpg").symlink_to(uri)
            files = spark.read.format("binaryFile").load(folder).repartition(2 * CORES)
            features = files.select("path", predict(decoded("content")).alias("features"))
            features.write.mode("overwrite").parquet(folder + "-features")

    return run


def keras_file(path: str) -> None:
    """Write the seeded weights as the Keras model that a user of (b) would have."""
    import keras

    from pool3.models import inception, load_model

    tensors = load_model("seeded").tensors()
    model = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg")
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    scopes = [layer.name for layer in inception.LAYERS if layer.kind == "conv"]
    for scope, conv, norm in zip(
        scopes, sorted(convolutions, key=_order), sorted(norms, key=_order), strict=True
    ):
        conv.set_weights([tensors[f"{scope}/kernel"]])
        names = ("beta", "moving_mean", "moving_variance")
        norm.set_weights([tensors[f"{scope}/{name}"] for name in names])
    model.save(path)


def _order(layer: Any) -> int:
    tail = layer.name.rpartition("_")[2]
    return int(tail) if tail.isdigit() else 0


def session(cores: int = CORES, heap: str | None = None) -> Any:
    """Return a Spark session on this machine, as the profile local makes it."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    builder = SparkSession.builder.master(f"local[{cores}]").appName("benchmark")
    for line in (REPOSITORY / "conf" / "local.conf").read_text().splitlines():
        if line.startswith("spark.") and not line.startswith("spark.master"):
            builder = builder.config(*line.split(None, 1))
    if heap is not None:
        builder = builder.config("spark.driver.memory", heap)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def pool3_job(engine: str) -> Timed:
    """Ways (c) and (d): the job itself, in a session whose workers keep the model."""
    from jobs.extract_features import ExtractConfig
    from jobs.extract_features import run as extract_features

    spark = session()

    def run(uris: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            pictures = links(Path(folder) / "pictures", uris)
            extract_features(
                spark,
                ExtractConfig(
                    input=str(pictures), output=folder + "/table", model="seeded", engine=engine
                ),
            )

    return run


def ceiling(engine_name: str) -> Timed:
    """Way (e)."""
    from pool3.engines import load_engine
    from pool3.extract.pipeline import InProcessDecoder, extract
    from pool3.extract.reuse import ContentReuse
    from pool3.extract.rows import PictureInput, RowContext
    from pool3.features.schema import FEATURE_SCHEMA
    from pool3.images.decode import DecodeLimits
    from pool3.models import load_model

    model = load_model("seeded")
    engine = load_engine(model.graph, name=engine_name, precision="auto", threads=CORES)
    context = RowContext(
        run_id="r",
        model_id="m",
        engine="e",
        precision="p",
        dimension=2048,
        schema=FEATURE_SCHEMA,
    )

    def run(uris: list[str]) -> None:
        limits = DecodeLimits()
        extract(
            (PictureInput(image_id=uri, uri=uri) for uri in uris),
            model=engine,
            append=lambda batch: None,
            context=context,
            decoder=InProcessDecoder(model.input_size, model.resize, limits, colour=model.colour),
            reuse=ContentReuse(None, None),
            batch_size=BATCH,
            max_bytes=limits.max_bytes,
        )

    return run


WAYS: dict[str, tuple[str, Callable[[], Timed]]] = {
    "a": ("one session.run a picture", single),
    "b": ("predict_batch_udf, Keras, fp32", spark_documented),
    "c": ("pool3 job, TensorFlow", lambda: pool3_job("tensorflow")),
    "d": ("pool3 job, OpenVINO", lambda: pool3_job("openvino")),
    "e-tf": ("ceiling, TensorFlow", lambda: ceiling("tensorflow")),
    "e-ov": ("ceiling, OpenVINO", lambda: ceiling("openvino")),
}


#: The ceiling that a way is held against: the same engine without Spark.
CEILING = {"a": "e-tf", "b": "e-tf", "c": "e-tf", "d": "e-ov", "e-tf": "e-tf", "e-ov": "e-ov"}


def serve(way: str, uris: list[str]) -> None:
    """Warm one way up in this process, and run it once for each line of standard input."""
    started = time.monotonic()
    timed = WAYS[way][1]()
    timed(uris[:WARM_UP])
    print(json.dumps(time.monotonic() - started), flush=True)
    for _ in sys.stdin:
        timed(uris[:WARM_UP])  # Spark ends workers that were idle for a minute
        started = time.monotonic()
        timed(uris)
        print(json.dumps(time.monotonic() - started), flush=True)


class Contender:
    """One way in a process of its own, warmed up."""

    def __init__(self, way: str, arguments: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "benchmarks.extract", arguments.pictures, "--way", way]
        if arguments.limit:
            command += ["--limit", str(arguments.limit)]
        self._process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.start_up_s = self._answer()

    def run(self) -> float:
        """Run all pictures once; returns seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                return float(line)
            except ValueError:
                continue  # some library's chatter
        raise RuntimeError("the process of this way ended early; its stderr tells why")


def median_ratio(rates: dict[str, list[float]], way: str, base: str) -> float | None:
    """Return the median over the rounds of one way's speed to another's."""
    if base not in rates:
        return None
    return median(own / other for own, other in zip(rates[way], rates[base], strict=True))


def summarised(rates: dict[str, list[float]], start_ups: dict[str, float]) -> list[dict[str, Any]]:
    """Return what each way came to: the rates of all rounds, their median and its ratios."""
    return [
        {
            "way": way,
            "images_per_s": median(rates[way]),
            "rounds": [round(rate, 2) for rate in rates[way]],
            "start_up_s": start_ups[way],
            **{f"to_{base}": median_ratio(rates, way, base) for base in ("a", "b", CEILING[way])},
        }
        for way in rates
    ]


def table(figures: list[dict[str, Any]]) -> str:
    """Lay the figures out for a person."""
    heads = ("img/s", "x (a)", "x (b)", "of (e)", "start-up s")
    lines = [f"{'way':<40}" + "".join(f"{head:>12}" for head in heads)]
    for found in figures:
        way = found["way"]
        ratios = [found[f"to_{base}"] for base in ("a", "b", CEILING[way])]
        cells = [f"{found['images_per_s']:.1f}"]
        cells += ["-" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        cells.append(f"{found['start_up_s']:.1f}")
        lines.append(f"{f'({way}) {WAYS[way][0]}':<40}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Measure each way and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", help="a folder of photos")
    parser.add_argument("--limit", type=int, help="only the first N photos")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way (default: 3)")
    parser.add_argument("--ways", default=",".join(WAYS), help="which, by letter (default: all)")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    uris = photos(arguments.pictures, arguments.limit)
    if arguments.way:
        serve(arguments.way, uris)
        return
    contenders = {way: Contender(way, arguments) for way in arguments.ways.split(",")}
    rates: dict[str, list[float]] = {way: [] for way in contenders}
    for turn in range(arguments.rounds):
        for way, contender in contenders.items():
            rates[way].append(len(uris) / contender.run())
            print(f"round {turn + 1}: ({way}) {rates[way][-1]:.1f} img/s", file=sys.stderr)
    figures = summarised(rates, {way: one.start_up_s for way, one in contenders.items()})
    print(f"{len(uris)} photos, {CORES} cores, {os.uname().machine}\n\n{table(figures)}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
