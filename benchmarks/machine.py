"""The machine that a report was made on: what a reader needs to judge its figures, and nothing that names it."""

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "memxlnet", "pyarrow", "torch", "transformers", "tokenizers", "datasets", "numpy", "psutil", "pylance", "litdata",
    "vortex-data", "tensordict", "array-record",
)  # fmt: skip


def cores() -> int:
    """Cores that this process may use, which are fewer than the machine's in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(folder: Path) -> dict[str, Any]:
    """The header of a report.

    Args:
        folder: Where the benchmarks work: its disk is described.
    """
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "ram_bytes": psutil.virtual_memory().total,
        "disk": _disk(folder),
        "disk_free_bytes": shutil.disk_usage(folder).free,
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    hypervisor = any(line.startswith("flags") and " hypervisor" in line for line in lines)
    return (names[0] if names else platform.machine()) + (", virtual machine" if hypervisor else "")


def _disk(folder: Path) -> str:
    """The kind of disk below a folder: its filesystem, and what Linux says of the device."""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if folder.absolute().is_relative_to(mount.mountpoint)]
    if not mounts:
        return "unknown"
    mount = max(mounts, key=lambda found: len(found.mountpoint))
    # The device may be a link, and a partition, whose disk is the folder above it.
    device = (Path("/sys/class/block") / Path(mount.device).resolve().name).resolve()
    for disk in (device, device.parent):
        try:
            # Virtual disks say that they turn: the word is the system's.
            turns = (disk / "queue" / "rotational").read_text().strip() == "1"
        except OSError:
            continue
        virtual = "virtual disk, " if disk.name.startswith(("vd", "xvd")) else ""
        return f"{mount.fstype}, {virtual}told as {'rotational' if turns else 'solid state'}"
    return f"{mount.fstype}, kind unknown"
