"""Description of the machine in a report: hardware and versions, without a host name."""

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
    """Return the number of cores that this process may use, which a container or taskset may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(folder: Path) -> dict[str, Any]:
    """Describe the machine for the header of a report.

    Args:
        folder: The work folder, whose disk is described.
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
    """Describe the disk of a folder: its file system, and the type of device that Linux reports."""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if folder.absolute().is_relative_to(mount.mountpoint)]
    if not mounts:
        return "unknown"
    mount = max(mounts, key=lambda found: len(found.mountpoint))
    # The device may be a link, or a partition, whose parent directory is the disk.
    device = (Path("/sys/class/block") / Path(mount.device).resolve().name).resolve()
    for disk in (device, device.parent):
        try:
            # Virtual disks often report that they are rotational.
            rotational = (disk / "queue" / "rotational").read_text().strip() == "1"
        except OSError:
            continue
        virtual = "virtual disk, " if disk.name.startswith(("vd", "xvd")) else ""
        return f"{mount.fstype}, {virtual}reported as {'rotational' if rotational else 'solid state'}"
    return f"{mount.fstype}, type unknown"
