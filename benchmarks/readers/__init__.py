"""The contestants of the comparison of mapped and eager reading: one cache, written and read in several ways.

The library of a contestant is imported when it is asked for (`load`, `prepare`, `open_reader`) and not before: memory
is measured in a process for each.
"""

import shutil
from importlib import import_module
from importlib.metadata import version as _version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

from benchmarks.readers.base import Reader
from memxlnet.format.manifest import read_manifest

__all__ = ["CONTESTANTS", "Reader", "installed", "load", "open_reader", "prepare"]


class _Contestant(NamedTuple):
    """Where a contestant is found: its module here, its class there, its files, and what it needs installed."""

    module: str
    reader: str
    files: str | None = None
    requires: str | None = None
    package: str | None = None


_KNOWN = {
    "memxlnet": _Contestant("memxlnet_reader", "MemxlnetReader"),
    "RAM tensors": _Contestant("ram_reader", "RamReader", "ram-tensors"),
    "pickled chunks": _Contestant("pickled_reader", "PickledReader", "pickled-chunks"),
    "NumPy memmap": _Contestant("numpy_reader", "NumpyReader", "numpy-memmap"),
    "datasets, torch": _Contestant("datasets_reader", "DatasetsTorchReader", "datasets", "datasets", "datasets"),
    "datasets, numpy": _Contestant("datasets_reader", "DatasetsNumpyReader", "datasets", "datasets", "datasets"),
    "Lance": _Contestant("lance_reader", "LanceReader", "lance", "lance", "pylance"),
    "LitData": _Contestant("litdata_reader", "LitDataReader", "litdata", "litdata", "litdata"),
    "Vortex": _Contestant("vortex_reader", "VortexReader", "vortex", "vortex", "vortex-data"),
    "tensordict": _Contestant("tensordict_reader", "TensorDictReader", "tensordict", "tensordict", "tensordict"),
    "ArrayRecord": _Contestant(
        "arrayrecord_reader", "ArrayRecordReader", "array-record", "array_record", "array-record"
    ),
}

CONTESTANTS = tuple(_KNOWN)
"""The names, in the order of the report."""


def installed(name: str) -> bool:
    """Whether the library that a contestant needs is there; imports nothing."""
    requires = _KNOWN[name].requires
    return requires is None or find_spec(requires) is not None


def load(name: str) -> None:
    """Import the library of a contestant and its module here, so that opening is timed alone."""
    _module(_KNOWN[name])


def prepare(name: str, directory: Path, folder: Path) -> Path:
    """Write a contestant's files for a cache unless they are there; both formats of `datasets` read the same files.

    Args:
        name: One of `CONTESTANTS`.
        directory: The published cache.
        folder: Where the files go, in a folder of their own that appears when it is whole.

    Returns:
        What `open_reader` opens.
    """
    contestant = _KNOWN[name]
    if contestant.files is None:
        return directory
    # Files of another cache, of another version of the library or of this project's writer are never taken for these.
    versions = [_version(package) for package in ("memxlnet", contestant.package or "torch")]
    identity = "-".join([read_manifest(directory).fingerprint[:12], contestant.files, *versions])
    path = folder / identity.replace("+", "-")
    if not path.is_dir():
        part = path.with_name(f"{path.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _module(contestant).write(directory, part)
        part.rename(path)
    return path


def open_reader(name: str, path: Path) -> Reader:
    """Open what `prepare` returned."""
    contestant = _KNOWN[name]
    return cast(Reader, getattr(_module(contestant), contestant.reader)(path))


def _module(contestant: _Contestant) -> Any:
    return import_module(f"benchmarks.readers.{contestant.module}")
