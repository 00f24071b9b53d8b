"""What this machine has: processor, memory, accelerators.

Linux is read from /proc, /sys and the cgroup of the process, macOS through ``sysctl`` and
``vm_stat``; the accelerators come from ``gpus``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llamaherd.gpus import Found, Gpu, find_gpus

#: A cgroup without a limit reports a number about as large as the address space.
_UNLIMITED: Final = 1 << 60

#: Names of macOS on Arm for what Linux calls otherwise.
_APPLE_FEATURES: Final = {
    "feat_dotprod": "asimddp",
    "feat_i8mm": "i8mm",
    "feat_bf16": "bf16",
    "feat_fp16": "asimdhp",
    "feat_sme": "sme",
    "feat_sme2": "sme2",
}


_NO_GPUS: Final = Found()


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine as far as this process may use it.

    ``cores`` counts physical cores, ``threads`` logical ones, both within the affinity mask and
    the processor quota of the cgroup, and at least 1. ``memory_total`` is in bytes, within the
    cgroup's limit. ``features`` has the names that the Linux kernel uses. ``gpu_trouble`` says why
    the engine has no accelerator, if it could use one and something is wrong.
    """

    cpu_name: str
    features: frozenset[str]
    cores: int
    threads: int
    memory_total: int
    gpus: tuple[Gpu, ...] = ()
    gpu_trouble: str = ""

    @property
    def has_amx(self) -> bool:
        return "amx_tile" in self.features


def detect() -> Hardware:
    """Look at this machine. Takes a second or so where it must ask a GPU driver, else 1 ms."""
    if sys.platform == "darwin":
        values = parse_sysctl(_output("sysctl", "hw", "machdep.cpu"))
        return apple_hardware(values, find_gpus())
    return linux_hardware(Path("/"), _affinity(), find_gpus())


def memory_available() -> int:
    """Bytes that can be taken now without swapping, within the cgroup's limit."""
    if sys.platform == "darwin":
        return parse_vm_stat(_output("vm_stat"))
    return linux_memory_available(Path("/"))


# --- Linux ----------------------------------------------------------------------------------


def linux_hardware(root: Path, affinity: Collection[int], found: Found = _NO_GPUS) -> Hardware:
    """``root`` is where ``proc`` and ``sys`` are; ``affinity`` the processors we may run on."""
    processors = parse_cpuinfo(_read(root / "proc/cpuinfo"))
    usable = [number for number in affinity if number in processors] or list(affinity)
    quota = cpu_quota(root)
    limit = max(1, int(quota)) if quota is not None else len(usable)
    total = parse_meminfo(_read(root / "proc/meminfo")).get("MemTotal", 0)
    limits = [group.limit for group in memory_groups(root)]
    first = next(iter(processors.values()), {})
    return Hardware(
        cpu_name=first.get("model name") or first.get("Processor") or first.get("cpu", ""),
        features=frozenset((first.get("flags") or first.get("Features", "")).split()),
        cores=max(1, min(_physical_cores(processors, usable), limit)),
        threads=max(1, min(len(usable), limit)),
        memory_total=min([total, *limits]),
        gpus=found.gpus,
        gpu_trouble=found.trouble,
    )


def linux_memory_available(root: Path) -> int:
    available = parse_meminfo(_read(root / "proc/meminfo")).get("MemAvailable", 0)
    rooms = [group.limit - group.used for group in memory_groups(root)]
    return max(0, min([available, *rooms]))


def parse_cpuinfo(text: str) -> dict[int, dict[str, str]]:
    """The fields of /proc/cpuinfo by processor number."""
    processors: dict[int, dict[str, str]] = {}
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        fields = {key.strip(): value.strip() for key, separator, value in pairs if separator}
        number = fields.get("processor", "")
        if number.isdecimal():
            processors[int(number)] = fields
    return processors


def _physical_cores(processors: Mapping[int, Mapping[str, str]], usable: Collection[int]) -> int:
    """Processors that share package and core are threads of one core; Arm kernels name neither."""
    cores = set()
    for number in usable:
        fields = processors.get(number, {})
        core = fields.get("core id")
        cores.add((fields.get("physical id", "0"), core) if core is not None else number)
    return len(cores)


def parse_meminfo(text: str) -> dict[str, int]:
    """The values of /proc/meminfo in bytes."""
    return {
        match[1]: int(match[2]) * 1024
        for match in re.finditer(r"^(\w+):\s+([0-9]+) kB$", text, re.MULTILINE)
    }


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A cgroup with a limit on memory, in bytes; ``used`` leaves out file cache that can go."""

    limit: int
    used: int


def memory_groups(root: Path) -> Iterator[MemoryGroup]:
    """The limited cgroups that this process is in, from its own up to the outermost."""
    for folder in _cgroup_folders(root, "memory"):
        version_1 = (folder / "memory.limit_in_bytes").exists()
        limit = _number(folder / ("memory.limit_in_bytes" if version_1 else "memory.max"))
        if limit is None or limit >= _UNLIMITED:
            continue
        used = _number(folder / ("memory.usage_in_bytes" if version_1 else "memory.current"))
        statistics = dict(
            pair
            for line in _read(folder / "memory.stat").splitlines()
            if len(pair := line.split()) == 2
        )
        cached = int(statistics.get("total_inactive_file", statistics.get("inactive_file", "0")))
        yield MemoryGroup(limit, max(0, (used or 0) - cached))


def cpu_quota(root: Path) -> float | None:
    """Processors' worth of time that the cgroups grant, ``None`` without a limit."""
    quotas = []
    for folder in _cgroup_folders(root, "cpu"):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        if not quota:
            quota = _read(folder / "cpu.cfs_quota_us").strip()
            period = _read(folder / "cpu.cfs_period_us").strip()
        if quota.isdecimal() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Where the limits of this process stand, of either version, innermost first.

    In a container the path in /proc/self/cgroup can be the host's, of which only the outermost
    part is mounted: folders that don't exist are passed over.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            mount = mounts if (mounts / "cgroup.controllers").exists() else mounts / "unified"
        elif controller in controllers.split(","):
            mount = mounts / controller
            if not mount.is_dir():
                mount = mounts / controllers
        else:
            continue
        inside = Path(path.lstrip("/"))
        if ".." in inside.parts:
            inside = Path()
        yield from (
            folder for part in (inside, *inside.parents) if (folder := mount / part).is_dir()
        )


def _affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


# --- macOS ----------------------------------------------------------------------------------


def parse_sysctl(text: str) -> dict[str, str]:
    """``name: value`` lines as ``sysctl`` prints them."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {name.strip(): value.strip() for name, separator, value in pairs if separator}


def apple_hardware(values: Mapping[str, str], found: Found = _NO_GPUS) -> Hardware:
    """From the ``hw`` and ``machdep.cpu`` trees; only performance cores count where they differ."""

    def count(*names: str) -> int:
        return next((int(values[name]) for name in names if values.get(name, "").isdecimal()), 0)

    return Hardware(
        cpu_name=values.get("machdep.cpu.brand_string", values.get("hw.model", "")),
        features=_apple_features(values),
        cores=max(1, count("hw.perflevel0.physicalcpu", "hw.physicalcpu")),
        threads=max(1, count("hw.logicalcpu", "hw.ncpu")),
        memory_total=count("hw.memsize"),
        gpus=found.gpus,
        gpu_trouble=found.trouble,
    )


def _apple_features(values: Mapping[str, str]) -> frozenset[str]:
    intel = (
        f"{values.get('machdep.cpu.features', '')} {values.get('machdep.cpu.leaf7_features', '')}"
    )
    names = {re.sub(r"^avx1_0$", "avx", name.lower().replace(".", "_")) for name in intel.split()}
    for key, value in values.items():
        if key.startswith("hw.optional.") and value == "1":
            name = key.rpartition(".")[2].lower()
            names.add(_APPLE_FEATURES.get(name, name))
    return frozenset(names)


def parse_vm_stat(text: str) -> int:
    """Bytes that are free or can be freed at once, from what ``vm_stat`` prints."""
    page = re.search(r"page size of ([0-9]+) bytes", text)
    pages = re.findall(
        r"^Pages (?:free|inactive|speculative|purgeable):\s+([0-9]+)", text, re.MULTILINE
    )
    return sum(map(int, pages)) * (int(page[1]) if page else 4096)


# --- small I/O ------------------------------------------------------------------------------


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _read(path: Path) -> str:
    """The text of a small file, nothing if it isn't there or ours to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None
