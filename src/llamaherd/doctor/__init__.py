"""``ollama doctor``: everything that a person needs when something is wrong.

Each module examines one subject and returns a ``Section``: facts, and problems with what to do
about each. Nothing here loads the engine; what must be asked of it, a child process asks.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence

from llamaherd import hardware
from llamaherd.config import Settings, unknown_variables
from llamaherd.doctor.engine import examine_engine
from llamaherd.doctor.findings import Section
from llamaherd.doctor.machine import examine_machine
from llamaherd.doctor.report import as_json, as_text
from llamaherd.doctor.server import examine_server
from llamaherd.doctor.settings import examine_settings
from llamaherd.doctor.store import examine_store
from llamaherd.doctor.versions import examine_versions
from llamaherd.errors import ConfigError


def run(settings: Settings, json_output: bool, complaints: Sequence[ConfigError] = ()) -> int:
    """Examine all, print it to stdout, and return the exit code: 1 if there are problems.

    ``complaints`` are errors of variables whose default stands in ``settings`` instead.
    """
    sections = list(examine(settings, complaints))
    if json_output:
        print(json.dumps(as_json(sections), indent=2))
    else:
        width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
        print(as_text(sections, width))
    return 1 if any(section.problems for section in sections) else 0


def examine(settings: Settings, complaints: Sequence[ConfigError] = ()) -> Iterator[Section]:
    machine = hardware.detect()
    yield examine_versions()
    yield examine_machine(machine)
    yield examine_engine(machine)
    yield examine_store(settings.models)
    yield examine_server(settings.host, settings.api_key)
    yield examine_settings(settings, machine, complaints, unknown_variables())
