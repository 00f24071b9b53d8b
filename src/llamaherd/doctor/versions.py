"""Which programs are at work."""

from __future__ import annotations

import platform
import sys

from llamaherd.doctor.findings import Section
from llamaherd.version import OLLAMA_VERSION, __version__


def examine_versions() -> Section:
    return Section(
        "Versions",
        {
            "llamaherd": __version__,
            "interface": f"Ollama {OLLAMA_VERSION}",
            "Python": f"{platform.python_version()} ({sys.executable})",
            "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        },
    )
