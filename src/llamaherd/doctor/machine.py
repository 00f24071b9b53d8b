"""What the machine has."""

from __future__ import annotations

from llamaherd import hardware
from llamaherd.doctor.findings import Section, Size
from llamaherd.hardware import Hardware


def examine_machine(machine: Hardware) -> Section:
    return Section(
        "Machine",
        {
            "processor": machine.cpu_name or None,
            "cores": machine.cores,
            "threads": machine.threads,
            "memory": Size(machine.memory_total),
            "free memory": Size(hardware.memory_available()),
            "accelerators": [
                f"{gpu.name} ({gpu.backend}, {Size(gpu.memory_free)} free of "
                f"{Size(gpu.memory_total)})"
                for gpu in machine.gpus
            ],
        },
    )
