"""The task of extract-features: a batch iterator over inputs that stores one part of the table."""

from __future__ import annotations

import os
import resource
import socket
import time
import warnings
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import types as T

from pool3.decode import DecodeLimits
from pool3.decode_pool import DecodePool
from pool3.engines import Engine, cached_engine, loads
from pool3.features.extraction import PictureInput, RowFacts, extract
from pool3.features.parts import PartWriter, part_name
from pool3.features.summary import TaskSummary
from pool3.storage import StoredObject
from udfs.spread import Batches, TaskFunction, summary

INPUT_SCHEMA = T.StructType(
    [
        T.StructField("image_id", T.StringType(), nullable=False),
        T.StructField("uri", T.StringType(), nullable=False),
        T.StructField("modified_at", T.TimestampType()),
        T.StructField("known_ok", T.BooleanType(), nullable=False),
    ]
)


def input_rows(objects: Sequence[StoredObject], ok_ids: Set[str]) -> pa.Table:
    """Return listed objects as rows of `INPUT_SCHEMA`; the id of a picture is its uri."""
    uris = [found.uri for found in objects]
    return pa.table(
        {
            "image_id": uris,
            "uri": uris,
            "modified_at": [found.modified_at for found in objects],
            "known_ok": [uri in ok_ids for uri in uris],
        }
    )


@dataclass(frozen=True, kw_only=True)
class ExtractSettings:
    """What a task needs to know besides the graph; small, shipped with the function."""

    table_uri: str
    run_id: str
    model_id: str
    dimension: int
    input_size: int
    resize: str
    engine: str
    precision: str
    threads: int
    batch_size: int
    limits: DecodeLimits


def extract_part(settings: ExtractSettings, graph: Any) -> TaskFunction:
    """Return the function for ``DataFrame.mapInArrow`` that extracts one partition.

    Parameters
    ----------
    settings
        See `ExtractSettings`.
    graph
        Spark broadcast of the frozen graph's bytes; it is opened only by a worker that has not
        loaded the model yet, however many tasks that worker runs.
    """

    def run(batches: Batches) -> Batches:
        # Damaged pictures make Pillow warn; what matters of it is the row's error_detail.
        warnings.filterwarnings("ignore", module="PIL")
        context = TaskContext.get()
        partition = context.partitionId() if context is not None else 0
        # The decoders start while the engine loads.
        decoder = _worker_decoder(settings)
        cpu_before = _cpu_s() + decoder.cpu_s
        loads_before = loads()
        started = time.perf_counter()
        engine = cached_engine(
            settings.model_id,
            lambda: _taken(graph),
            name=settings.engine,
            precision=settings.precision,
            threads=settings.threads,
        )
        load_s = time.perf_counter() - started
        name = part_name(settings.run_id, partition)
        with PartWriter(settings.table_uri, name, settings.dimension) as part:
            tally = extract(
                _inputs(batches),
                model=engine,
                append=part.append,
                facts=_row_facts(settings, engine),
                decoder=decoder,
                batch_size=settings.batch_size,
                max_bytes=settings.limits.max_bytes,
            )
            started = time.perf_counter()
            file = part.finish()
            tally.seconds["write"] += time.perf_counter() - started
        yield summary(
            TaskSummary(
                file=file,
                ok=tally.ok,
                failed=tally.failed,
                kept=tally.kept,
                errors=dict(tally.errors),
                seconds=dict(tally.seconds),
                cpu_s=_cpu_s() + decoder.cpu_s - cpu_before,
                engine=engine.name,
                precision=engine.precision,
                worker=f"{socket.gethostname()}:{os.getpid()}",
                loads=loads() - loads_before,
                load_s=load_s,
            ).as_dict()
        )

    return run


def _taken(graph: Any) -> bytes:
    """Return a broadcast's value without this worker keeping it: the engine has its own copy."""
    value: bytes = graph.value
    vars(graph).pop("_value", None)
    return value


_decoders: dict[ExtractSettings, DecodePool] = {}


def _worker_decoder(settings: ExtractSettings) -> DecodePool:
    """Return this worker's decoders, which stay from task to task as the engine does.

    A worker that is reused by another job closes what the first one left.
    """
    if settings not in _decoders:
        for pool in _decoders.values():
            pool.close()
        _decoders.clear()
        _decoders[settings] = DecodePool(
            processes=settings.threads,
            size=settings.input_size,
            resize=settings.resize,
            limits=settings.limits,
        )
    return _decoders[settings]


def _row_facts(settings: ExtractSettings, engine: Engine) -> RowFacts:
    return RowFacts(
        run_id=settings.run_id,
        model_id=settings.model_id,
        engine=engine.name,
        precision=engine.precision,
        dimension=settings.dimension,
    )


def _inputs(batches: Batches) -> Iterator[PictureInput]:
    for batch in batches:
        for row in batch.to_pylist():
            yield PictureInput(row["image_id"], row["uri"], row["modified_at"], row["known_ok"])


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
