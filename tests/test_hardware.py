"""What the machine has, read from made-up machines in a temporary folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd import hardware

GIB = 1 << 30


class Machine:
    """A folder with the files of /proc and /sys that a test puts there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n")

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def processors(self, *cores: tuple[int, int], flags: str = "fpu avx2") -> None:
        """One logical processor per (package, core)."""
        self.write(
            "proc/cpuinfo",
            "".join(
                f"processor\t: {number}\nmodel name\t: Testium 9000\nphysical id\t: {package}\n"
                f"core id\t\t: {core}\nflags\t\t: {flags}\n\n"
                for number, (package, core) in enumerate(cores)
            ),
        )

    def detect(self, *affinity: int) -> hardware.Hardware:
        return hardware.linux_hardware(self.root, affinity)

    def available(self) -> int:
        return hardware.linux_memory_available(self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.processors((0, 0), (0, 1), (0, 0), (0, 1))
    return machine


# --- processors -----------------------------------------------------------------------------


def test_two_threads_of_one_core_count_once(machine: Machine) -> None:
    found = machine.detect(0, 1, 2, 3)
    assert (found.cpu_name, found.cores, found.threads) == ("Testium 9000", 2, 4)
    assert found.features == {"fpu", "avx2"}


def test_only_processors_of_the_affinity_mask_count(machine: Machine) -> None:
    assert (machine.detect(0, 2).cores, machine.detect(0, 2).threads) == (1, 2)


def test_cores_with_the_same_number_in_two_packages_are_two(machine: Machine) -> None:
    machine.processors((0, 0), (1, 0))
    assert machine.detect(0, 1).cores == 2


def test_arm_names_no_cores_and_calls_its_flags_features(machine: Machine) -> None:
    machine.write(
        "proc/cpuinfo",
        "processor\t: 0\nFeatures\t: fp asimd asimddp\n\nprocessor\t: 1\nFeatures\t: fp asimd\n\n",
    )
    found = machine.detect(0, 1)
    assert found.cores == 2
    assert found.features == {"fp", "asimd", "asimddp"}


def test_amx_is_known_by_its_tiles(machine: Machine) -> None:
    assert not machine.detect(0).has_amx
    machine.processors((0, 0), flags="amx_bf16 amx_tile amx_int8")
    assert machine.detect(0).has_amx


def test_a_machine_that_tells_nothing_has_one_core(tmp_path: Path) -> None:
    found = hardware.linux_hardware(tmp_path, ())
    assert (found.cores, found.threads, found.memory_total) == (1, 1, 0)


@pytest.mark.parametrize(
    ("maximum", "cores"),
    [("100000 100000", 1), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 2)],
)
def test_a_cgroup_quota_bounds_the_cores(machine: Machine, maximum: str, cores: int) -> None:
    machine.write("proc/self/cgroup", "0::/user/job\n")
    machine.write("sys/fs/cgroup/cgroup.controllers", "cpu memory")
    machine.write("sys/fs/cgroup/user/job/cpu.max", maximum + "\n")
    assert machine.detect(0, 1, 2, 3).cores == cores


def test_a_quota_of_the_older_cgroups_counts_too(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "4:cpu,cpuacct:/job\n")
    machine.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "150000\n")
    machine.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n")
    machine.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    machine.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    assert hardware.cpu_quota(machine.root) == 1.5


# --- memory ---------------------------------------------------------------------------------


def test_memory_without_limits_is_the_machines(machine: Machine) -> None:
    assert machine.detect(0).memory_total == 16 * GIB
    assert machine.available() == 8 * GIB


def test_the_tightest_cgroup_on_the_way_up_bounds_the_memory(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/outer/inner\n")
    machine.write("sys/fs/cgroup/cgroup.controllers", "memory")
    machine.write("sys/fs/cgroup/outer/inner/memory.max", "max\n")
    machine.write("sys/fs/cgroup/outer/memory.max", f"{4 * GIB}\n")
    machine.write("sys/fs/cgroup/outer/memory.current", f"{3 * GIB}\n")
    machine.write("sys/fs/cgroup/outer/memory.stat", f"anon 5\ninactive_file {GIB}\n")
    assert machine.detect(0).memory_total == 4 * GIB
    assert machine.available() == 2 * GIB


def test_in_a_container_the_hosts_path_is_not_mounted(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "9:memory:/docker/0123abcd\n")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2 * GIB}\n")
    machine.write("sys/fs/cgroup/memory/memory.usage_in_bytes", f"{GIB}\n")
    machine.write("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 0\n")
    assert machine.detect(0).memory_total == 2 * GIB
    assert machine.available() == GIB


def test_no_limit_is_a_huge_number_in_the_older_cgroups(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "9:memory:/\n")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert machine.detect(0).memory_total == 16 * GIB


def test_a_full_cgroup_has_nothing_available(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "9:memory:/\n")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{GIB}\n")
    machine.write("sys/fs/cgroup/memory/memory.usage_in_bytes", f"{GIB + 4096}\n")
    assert machine.available() == 0


def test_a_cgroup_path_that_climbs_out_of_the_mount_is_not_followed(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "9:memory:/../../../elsewhere\n")
    machine.write("elsewhere/memory.limit_in_bytes", "1\n")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{GIB}\n")
    assert machine.detect(0).memory_total == GIB


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    hardware.parse_cpuinfo(text)
    hardware.parse_meminfo(text)
    hardware.parse_vm_stat(text)
    hardware.apple_hardware(hardware.parse_sysctl(text))


# --- macOS ----------------------------------------------------------------------------------


def test_apple_silicon_counts_its_performance_cores() -> None:
    found = hardware.apple_hardware(
        hardware.parse_sysctl(
            "machdep.cpu.brand_string: Apple M2\nhw.memsize: 17179869184\nhw.physicalcpu: 8\n"
            "hw.logicalcpu: 8\nhw.perflevel0.physicalcpu: 4\n"
            "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_SME: 0\n"
        )
    )
    assert (found.cpu_name, found.cores, found.threads) == ("Apple M2", 4, 8)
    assert found.memory_total == 16 * GIB
    assert found.features == {"asimddp"}


def test_an_intel_mac_names_its_features_in_capitals() -> None:
    found = hardware.apple_hardware(
        {
            "machdep.cpu.features": "FPU SSE4.1 AVX1.0",
            "machdep.cpu.leaf7_features": "AVX2 AVX512F",
            "hw.physicalcpu": "4",
        }
    )
    assert found.features == {"fpu", "sse4_1", "avx", "avx2", "avx512f"}


def test_free_memory_of_a_mac_is_what_can_be_freed_at_once() -> None:
    text = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                               10.\n"
        "Pages active:                            999.\n"
        "Pages inactive:                           20.\n"
        "Pages speculative:                         3.\n"
    )
    assert hardware.parse_vm_stat(text) == 33 * 16384


# --- accelerators ---------------------------------------------------------------------------


# --- this machine ---------------------------------------------------------------------------


def test_this_machine_is_recognised() -> None:
    found = hardware.detect()
    assert found.cores >= 1
    assert found.threads >= found.cores
    assert 0 < hardware.memory_available() <= found.memory_total


def test_importing_it_does_not_load_the_engine() -> None:
    code = (
        "import sys, llamaherd.hardware as h; h.find_gpus();"
        "print([name for name in ('llama_cpp', 'numpy', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
