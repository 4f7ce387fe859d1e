"""The contestants of the comparison of mapped and eager reading: one cache, written and read in several formats.

The library of a contestant is imported on first use (`load`, `prepare`, `open_reader`), because memory is measured in a
separate process for each.
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
    """The module and the class of a contestant, its files, and the library that it requires."""

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
"""The names in the order of the report."""


def installed(name: str) -> bool:
    """Return whether the library of a contestant is installed, without importing it."""
    requires = _KNOWN[name].requires
    return requires is None or find_spec(requires) is not None


def load(name: str) -> None:
    """Import the library and the module of a contestant, so that imports are not timed."""
    _module(_KNOWN[name])


def prepare(name: str, directory: Path, folder: Path) -> Path:
    """Write a contestant's files for a cache if they are missing; both formats of `datasets` read the same files.

    Args:
        name: One of `CONTESTANTS`.
        directory: The published cache.
        folder: Parent of the folder with the files, which is renamed into place when complete.

    Returns:
        The path for `open_reader`.
    """
    contestant = _KNOWN[name]
    if contestant.files is None:
        return directory
    # The name excludes files of other caches, and of other versions of the library or of memxlnet.
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
