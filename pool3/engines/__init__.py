"""Engines run the frozen graph of a model: one engine per process and model."""

from __future__ import annotations

from pool3.engines.cache import cached_engine, loads
from pool3.engines.choice import AUTO, ENGINES, PRECISIONS, Capabilities, capabilities, choose
from pool3.engines.engine import Engine
from pool3.engines.gpu import pin_gpu
from pool3.engines.load import load_engine

__all__ = [
    "AUTO",
    "ENGINES",
    "PRECISIONS",
    "Capabilities",
    "Engine",
    "cached_engine",
    "capabilities",
    "choose",
    "load_engine",
    "loads",
    "pin_gpu",
]
