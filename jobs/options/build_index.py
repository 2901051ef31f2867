"""The options of build-index, checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from jobs.options.shared import IndexConfig, require_counts, require_shares
from jobs.runtime.job import Job
from jobs.runtime.run import job_parser
from pool3.errors import UsageError
from pool3.features.columns import ColumnChoice
from pool3.index.shards.writer import MAX_SEED
from pool3.vectors.distances import METRICS

NAME = "build-index"


@dataclass(frozen=True, kw_only=True)
class BuildConfig(IndexConfig):
    """The configuration of build-index: the options of its command line, checked."""

    features: str
    metric: str = "angular"
    n_trees: int = 50
    n_shards: int | None = None
    max_build_memory_mb: int = 4096
    seed: int = 1
    vectors_dtype: str = "auto"
    metadata: str | None = None
    columns: str | None = None
    leave_out: str | None = None
    refit_pca: bool = False
    min_recall: float | None = None
    max_shrink: float = 0.05

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UsageError(
                f"expected --metric to be one of {', '.join(METRICS)}, found {self.metric!r}"
            )
        require_counts(
            {
                "--n-trees": self.n_trees,
                "--n-shards": self.n_shards,
                "--max-build-memory-mb": self.max_build_memory_mb,
            }
        )
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"expected --seed from 0 to {MAX_SEED}, found {self.seed}")
        require_shares({"--min-recall": self.min_recall, "--max-shrink": self.max_shrink})
        self.column_choice()
        super().__post_init__()

    def column_choice(self) -> ColumnChoice:
        """Return which columns the index is to carry."""
        only = None if self.columns is None else _names(self.columns, "--columns")
        leave_out = () if self.leave_out is None else _names(self.leave_out, "--leave-out")
        return ColumnChoice(only=only, leave_out=leave_out)


def _names(text: str, option: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(
            f"expected names of columns with commas between them in {option}, found {text!r}"
        )
    return names


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        NAME,
        "Build a snapshot of an index from a feature table and publish it. The table is one that\n"
        "extract-features wrote, or any Delta table or Parquet with the columns image_id and\n"
        "features. Vectors that cannot be indexed are counted, named and left out. Run again, it\n"
        "adds what is new in the table, and buries what changed or went; compact-index folds that.",
        "example:\n"
        "  ./submit.sh build-index --features build/features --index build/index\n"
        "\nexit status: 0 done, 1 failed, 2 wrong arguments (nothing written), 3 a gate did not\n"
        "hold (the snapshot is stored and not published)",
    )
    parser.add_argument("--features", required=True, metavar="TABLE", help="the feature table")
    parser.add_argument("--index", required=True, metavar="DIR", help="made if it is not there")
    _add_shape(parser)
    _add_contents(parser)
    _add_gates(parser)
    return parser


def _add_shape(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metric",
        default=BuildConfig.metric,
        help=f"{', '.join(METRICS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--n-trees",
        type=int,
        default=BuildConfig.n_trees,
        metavar="N",
        help="more find more of the true neighbours, and cost time and bytes "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--n-shards",
        type=_number_or_auto,
        metavar="N",
        help="into how many shards a table is dealt that is built from the whole; auto takes the "
        "fewest that fit the memory of a task and 2 GB a file (default: auto)",
    )
    parser.add_argument(
        "--max-build-memory-mb",
        type=int,
        default=BuildConfig.max_build_memory_mb,
        metavar="MB",
        help="what the building of one shard may take, the JVM's own memory aside "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=BuildConfig.seed,
        metavar="N",
        help="of the trees' random splits (default: %(default)s)",
    )
    parser.add_argument(
        "--vectors-dtype",
        default=BuildConfig.vectors_dtype,
        choices=("auto", "float16", "float32"),
        help="of the vectors that rank the best candidates: float16 halves them; auto takes "
        "float32 where float16 would round too much (default: %(default)s)",
    )


def _number_or_auto(text: str) -> int | None:
    return None if text == "auto" else int(text)


def _add_contents(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metadata",
        metavar="TABLE",
        help="a table with image_id and columns about the pictures; they replace the index's of "
        "the same names, without touching a tree, and are asked for again by later runs",
    )
    parser.add_argument(
        "--columns",
        metavar="NAME,…",
        help="the only columns that the index carries, of the table and of --metadata; columns of "
        "bytes are carried only when named here (default: all that can be carried)",
    )
    parser.add_argument(
        "--leave-out",
        metavar="NAME,…",
        help="columns that the index does not carry",
    )
    parser.add_argument(
        "--refit-pca",
        action="store_true",
        help="build from the whole table, with a PCA fitted to it",
    )


def _add_gates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--min-recall",
        type=float,
        metavar="SHARE",
        help="publish only when the best measured effort has this recall@10",
    )
    parser.add_argument(
        "--max-shrink",
        type=float,
        default=BuildConfig.max_shrink,
        metavar="SHARE",
        help="publish only when no more than this share of the published rows has gone "
        "(default: %(default)s)",
    )


JOB = Job(NAME, BuildConfig, arg_parser)
