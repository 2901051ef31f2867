"""The task of extract-features: extracts pictures and stores their rows as one file."""

from __future__ import annotations

import os
import resource
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields

import pyarrow as pa
from pyspark import TaskContext

from pool3.engines import Engine, cached_engine, loads, pin_gpu
from pool3.extract.pipeline import extract
from pool3.extract.reuse import ContentReuse, ExistingContent
from pool3.extract.rows import PictureInput, RowContext
from pool3.extract.tally import Tally
from pool3.extract.task_summary import TaskSummary
from pool3.features.parts import PartWriter
from pool3.features.table import FeatureTable
from pool3.images.decode import DecodeLimits
from pool3.images.pool import DecodePool
from pool3.storage.names import part_name
from pool3.storage.tables import TableFile
from udfs.tasks import Batches, Broadcast, TaskFunction, partition_number, summary


@dataclass(frozen=True, kw_only=True)
class ExtractSettings:
    """The settings of a task besides the graph; small, since they are shipped with the function.

    Attributes
    ----------
    table_uri
        Where files are stored; None for a trial whose rows are discarded.
    gpu
        Whether Spark assigns a GPU to each task.
    decode_function
        ``module:name`` of the function that decodes, for tests; see `pool3.images.pool.DecodePool`.
    """

    table_uri: str | None
    run_id: str
    model_id: str
    graph_sha256: str
    dimension: int
    schema: pa.Schema
    input_size: int
    resize: str
    colour: str
    engine: str
    precision: str
    threads: int
    gpu: bool
    batch_size: int
    limits: DecodeLimits
    thumbnail_side: int | None
    decode_function: str
    timeout_s: float


def extract_partition(
    settings: ExtractSettings,
    graph: Broadcast[bytes],
    table: FeatureTable | None,
    existing: Broadcast[ExistingContent | None],
) -> TaskFunction:
    """Return the function for ``DataFrame.mapInArrow`` that extracts one partition of a plan.

    Parameters
    ----------
    settings
        See `ExtractSettings`.
    graph
        The frozen graph; its value is read only by a worker that has not loaded the model yet,
        however many tasks that worker runs.
    table
        The version that the run began from, None when there is none.
    existing
        Where that version stores features; None disables the reuse of its features.
    """

    def run(batches: Batches) -> Batches:
        task = extract_rows(
            picture_inputs(batches),
            settings,
            lambda: _release(graph),
            ContentReuse(table, existing.value),
            TaskContext.get(),
        )
        yield summary(task.as_dict())

    return run


def extract_rows(
    inputs: Iterable[PictureInput],
    settings: ExtractSettings,
    read_graph: Callable[[], bytes],
    reuse: ContentReuse,
    context: TaskContext | None,
) -> TaskSummary:
    """Extract pictures and store their rows as one file of the table.

    Parameters
    ----------
    read_graph
        Returns the frozen graph; called only if this process has not loaded the model yet.
    reuse
        Features that need not be computed again.
    context
        Of the Spark task, None outside of one.
    """
    # Pillow warns about damaged pictures; the row's error_detail already has the reason.
    warnings.filterwarnings("ignore", module="PIL")
    if settings.gpu:
        pin_gpu(gpu_addresses(context))
    # The decoders start while the engine loads.
    decoder = _worker_decoder(settings)
    cpu_before = _cpu_s() + decoder.cpu_s
    loads_before = loads()
    started = time.perf_counter()
    engine = cached_engine(
        settings.graph_sha256,
        read_graph,
        name=settings.engine,
        precision=settings.precision,
        threads=settings.threads,
    )
    load_s = time.perf_counter() - started
    load_cpu_s = _cpu_s() + decoder.cpu_s - cpu_before
    with _writer(settings) as writer:
        tally, file = _extract_and_store(inputs, settings, engine, decoder, reuse, writer)
    return TaskSummary(
        file=file,
        ok=tally.ok,
        failed=tally.failed,
        copied=tally.copied,
        unchanged=tally.unchanged,
        retained=tally.retained,
        errors=dict(tally.errors),
        seconds=dict(tally.seconds),
        slowest=tally.slowest.entries,
        largest=tally.largest.entries,
        cpu_s=_cpu_s() + decoder.cpu_s - cpu_before,
        engine=engine.name,
        precision=engine.precision,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        loads=loads() - loads_before,
        load_s=load_s,
        load_cpu_s=load_cpu_s,
    )


def _extract_and_store(
    inputs: Iterable[PictureInput],
    settings: ExtractSettings,
    engine: Engine,
    decoder: DecodePool,
    reuse: ContentReuse,
    writer: PartWriter | _NullWriter,
) -> tuple[Tally, TableFile | None]:
    tally = extract(
        inputs,
        model=engine,
        append=writer.append,
        context=_row_context(settings, engine),
        decoder=decoder,
        reuse=reuse,
        batch_size=settings.batch_size,
        max_bytes=settings.limits.max_bytes,
    )
    started = time.perf_counter()
    file = writer.finish()
    tally.seconds["write"] += time.perf_counter() - started
    return tally, file


def gpu_addresses(context: TaskContext | None) -> list[str]:
    """Return the addresses of the GPUs that Spark assigned to a task."""
    resources = {} if context is None else context.resources()
    return list(resources["gpu"].addresses) if "gpu" in resources else []


class _NullWriter:
    """Discards the rows of a trial."""

    def __enter__(self) -> _NullWriter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def append(self, batch: pa.RecordBatch) -> None:
        """Discard rows."""

    def finish(self) -> None:
        """Store nothing."""


def _writer(settings: ExtractSettings) -> PartWriter | _NullWriter:
    if settings.table_uri is None:
        return _NullWriter()
    name = part_name(settings.run_id, partition_number())
    return PartWriter(settings.table_uri, name, settings.dimension, settings.schema)


def _release(graph: Broadcast[bytes]) -> bytes:
    """Return a broadcast's value and drop it from this worker: the engine has its own copy."""
    value = graph.value
    vars(graph).pop("_value", None)
    return value


_DecoderKey = tuple[int, int, str, str, DecodeLimits, int | None, str, float]
_decoders: dict[_DecoderKey, DecodePool] = {}


def _worker_decoder(settings: ExtractSettings) -> DecodePool:
    """Return this worker's decoders, which are reused from task to task as the engine is.

    A worker that Spark reuses with other settings closes the decoders of the earlier ones.
    """
    key = (
        settings.threads,
        settings.input_size,
        settings.resize,
        settings.colour,
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
            colour=settings.colour,
            limits=settings.limits,
            timeout_s=settings.timeout_s,
            thumbnail_side=settings.thumbnail_side,
            function=settings.decode_function,
        )
    return _decoders[key]


def _row_context(settings: ExtractSettings, engine: Engine) -> RowContext:
    return RowContext(
        run_id=settings.run_id,
        model_id=settings.model_id,
        engine=engine.name,
        precision=engine.precision,
        dimension=settings.dimension,
        schema=settings.schema,
    )


_INPUT_COLUMNS = {field.name for field in fields(PictureInput)}


def picture_inputs(batches: Batches) -> Iterator[PictureInput]:
    """Yield the rows of a plan as inputs; other columns of the plan are ignored."""
    for batch in batches:
        columns = [name for name in batch.schema.names if name in _INPUT_COLUMNS]
        for row in batch.select(columns).to_pylist():
            yield PictureInput(**row)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
