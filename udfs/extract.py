"""The task of extract-features: a batch iterator over inputs that stores one part of the table."""

from __future__ import annotations

import os
import resource
import socket
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
from pyspark import TaskContext

from pool3.engines import Engine, cached_engine, loads, pin_gpu
from pool3.extract.pipeline import extract
from pool3.extract.reuse import ContentReuse
from pool3.extract.rows import PictureInput, RowContext
from pool3.extract.task_summary import TaskSummary
from pool3.features.parts import PartWriter
from pool3.features.table import FeatureTable
from pool3.images.decode import DecodeLimits
from pool3.images.pool import DecodePool
from pool3.storage.names import part_name
from udfs.tasks import Batches, TaskFunction, summary


@dataclass(frozen=True, kw_only=True)
class ExtractSettings:
    """What a task needs to know besides the graph; small, shipped with the function.

    Attributes
    ----------
    table_uri
        Where parts are stored; None for a trial whose rows go nowhere.
    gpu
        Whether each task was promised a GPU.
    decode_function
        ``module:name`` of what decodes, for tests; see `pool3.images.pool.DecodePool`.
    """

    table_uri: str | None
    run_id: str
    model_id: str
    dimension: int
    schema: pa.Schema
    input_size: int
    resize: str
    engine: str
    precision: str
    threads: int
    gpu: bool
    batch_size: int
    limits: DecodeLimits
    thumbnail_side: int | None
    decode_function: str
    timeout_s: float


def extract_part(
    settings: ExtractSettings, graph: Any, table: FeatureTable | None, known: Any
) -> TaskFunction:
    """Return the function for ``DataFrame.mapInArrow`` that extracts one partition of a plan.

    Parameters
    ----------
    settings
        See `ExtractSettings`.
    graph
        Spark broadcast of the frozen graph's bytes; it is opened only by a worker that has not
        loaded the model yet, however many tasks that worker runs.
    table
        The version that the run began from, None when there is none.
    known
        Spark broadcast of where that version holds features, a `KnownContent` or None.
    """

    def run(batches: Batches) -> Batches:
        # Damaged pictures make Pillow warn; what matters of it is the row's error_detail.
        warnings.filterwarnings("ignore", module="PIL")
        context = TaskContext.get()
        if settings.gpu:
            pin_gpu(gpu_addresses(context))
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
        load_cpu_s = _cpu_s() + decoder.cpu_s - cpu_before
        with _part(settings, context) as part:
            tally = extract(
                _inputs(batches),
                model=engine,
                append=part.append,
                facts=_row_facts(settings, engine),
                decoder=decoder,
                twins=ContentReuse(table, known.value),
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
                copied=tally.copied,
                unchanged=tally.unchanged,
                kept=tally.kept,
                errors=dict(tally.errors),
                seconds=dict(tally.seconds),
                slowest=tally.slowest.found,
                largest=tally.largest.found,
                cpu_s=_cpu_s() + decoder.cpu_s - cpu_before,
                engine=engine.name,
                precision=engine.precision,
                worker=f"{socket.gethostname()}:{os.getpid()}",
                loads=loads() - loads_before,
                load_s=load_s,
                load_cpu_s=load_cpu_s,
            ).as_dict()
        )

    return run


def gpu_addresses(context: TaskContext | None) -> list[str]:
    """Return the addresses of the GPUs that Spark gave a task; none where it gave none."""
    resources = {} if context is None else context.resources()
    return list(resources["gpu"].addresses) if "gpu" in resources else []


class _NoPart:
    """Takes the rows of a trial, which are stored nowhere."""

    def __enter__(self) -> _NoPart:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def append(self, batch: pa.RecordBatch) -> None:
        """Drop rows."""

    def finish(self) -> None:
        """Store nothing."""


def _part(settings: ExtractSettings, context: TaskContext | None) -> PartWriter | _NoPart:
    if settings.table_uri is None:
        return _NoPart()
    partition = context.partitionId() if context is not None else 0
    name = part_name(settings.run_id, partition)
    return PartWriter(settings.table_uri, name, settings.dimension, settings.schema)


def _taken(graph: Any) -> bytes:
    """Return a broadcast's value without this worker keeping it: the engine has its own copy."""
    value: bytes = graph.value
    vars(graph).pop("_value", None)
    return value


_Decoding = tuple[int, int, str, DecodeLimits, int | None, str, float]
_decoders: dict[_Decoding, DecodePool] = {}


def _worker_decoder(settings: ExtractSettings) -> DecodePool:
    """Return this worker's decoders, which stay from task to task as the engine does.

    A worker that is reused by another job closes what the first one left.
    """
    key = (
        settings.threads,
        settings.input_size,
        settings.resize,
        settings.limits,
        settings.thumbnail_side,
        settings.decode_function,
        settings.timeout_s,
    )
    if key not in _decoders:
        for pool in _decoders.values():
            pool.close()
        _decoders.clear()
        _decoders[key] = DecodePool(
            processes=settings.threads,
            size=settings.input_size,
            resize=settings.resize,
            limits=settings.limits,
            timeout_s=settings.timeout_s,
            thumbnail_side=settings.thumbnail_side,
            function=settings.decode_function,
        )
    return _decoders[key]


def _row_facts(settings: ExtractSettings, engine: Engine) -> RowContext:
    return RowContext(
        run_id=settings.run_id,
        model_id=settings.model_id,
        engine=engine.name,
        precision=engine.precision,
        dimension=settings.dimension,
        schema=settings.schema,
    )


_OF_INPUTS = {field.name for field in fields(PictureInput)}


def _inputs(batches: Batches) -> Iterator[PictureInput]:
    for batch in batches:
        taken = batch.select([name for name in batch.schema.names if name in _OF_INPUTS])
        for row in taken.to_pylist():
            yield PictureInput(**row)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
