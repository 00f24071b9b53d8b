"""The evaluation: ``python -m training.evaluate [--model FILE.gguf]``.

Every case goes through the real server, to the model of the package or to another file with the
package's template. Once greedily and once with the model's own parameters.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamaherd.client import Client, Object
from llamaherd.cria import bundle
from training.cases import TASKS, Case, Task, cases
from training.client import Reply, ask, server

COUNT: Final = 500

#: Options of each way to sample, beside a limit that no good reply reaches.
WAYS: Final[dict[str, Object]] = {
    "greedy": {"temperature": 0},
    "as shipped": {"seed": 1},
}
_LIMIT: Final = 400

#: The share of all replies that must end by themselves.
STOPS: Final = 0.98


@dataclass(frozen=True)
class Result:
    task: Task
    right: int
    stopped: int
    count: int
    wrong: tuple[tuple[Case, Reply], ...]


def evaluate(client: Client, model: str, options: Object, count: int) -> Iterator[Result]:
    with ThreadPoolExecutor(4) as pool:
        for task in TASKS:
            asked = list(cases(task, count))
            requests = [
                each.request | {"model": model, "options": {"num_predict": _LIMIT} | options}
                for each in asked
            ]
            replies = list(pool.map(lambda request: ask(client, request), requests))
            pairs = list(zip(asked, replies, strict=True))
            wrong = tuple((case, reply) for case, reply in pairs if not case.is_right(reply))
            stopped = sum(reply.done_reason == "stop" for reply in replies)
            yield Result(task, count - len(wrong), stopped, count, wrong)


def table(results: Mapping[str, Sequence[Result]]) -> str:
    """A Markdown table with a column for each way to sample."""
    ways = list(results)
    lines = [
        f"| of {results[ways[0]][0].count} each | {' | '.join(ways)} | meant |",
        "|---|" + "---:|" * (len(ways) + 1),
    ]
    for row in zip(*results.values(), strict=True):
        target = row[0].task.target
        shares = " | ".join(f"{each.right / each.count:.0%}" for each in row)
        lines.append(f"| {row[0].task.title} | {shares} | {_promise(target)} |")
    stops = " | ".join(
        f"{sum(each.stopped for each in column) / sum(each.count for each in column):.1%}"
        for column in results.values()
    )
    lines.append(f"| all replies: stops by itself | {stops} | {_promise(STOPS)} |")
    return "\n".join(lines)


def _promise(target: float | None) -> str:
    return "" if target is None else f"≥ {target:.0%}"


def keeps_promises(results: Sequence[Result]) -> bool:
    stopped = sum(each.stopped for each in results) >= STOPS * sum(each.count for each in results)
    return stopped and all(
        each.right >= each.task.target * each.count for each in results if each.task.target
    )


def add_model(client: Client, file: Path) -> str:
    """Another file in the place of the package's; the name it has on the server."""
    digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    with file.open("rb") as content:
        client.upload_blob(digest, content, file.stat().st_size, lambda sent: None)
    request: dict[str, Any] = {
        "model": "candidate",
        "files": {file.name: digest},
        "template": bundle.TEMPLATE.read_text(),
        "system": bundle.SYSTEM.read_text(),
        "parameters": bundle.parameters(),
    }
    for _ in client.create(request):
        pass
    return "candidate"


def tell(way: str, result: Result, wrong: int = 0) -> None:
    print(f"{way}: {result.task.title}: {result.right} of {result.count}", file=sys.stderr)
    for case, reply in result.wrong[:wrong]:
        print(f"{case.request}\n  expected {case.expected}\n  {reply}\n", file=sys.stderr)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Evaluate Cria.")
    parser.add_argument("--model", type=Path, help="a GGUF file; the package's if none is given")
    parser.add_argument("--count", type=int, default=COUNT, help="cases of each task")
    parser.add_argument("--wrong", type=int, default=0, help="show so many wrong replies of a task")
    given = parser.parse_args(arguments)
    results: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as client:
        model = add_model(client, given.model) if given.model else bundle.NAME.short
        for way, options in WAYS.items():
            results[way] = []
            for result in evaluate(client, model, options, given.count):
                results[way].append(result)
                tell(way, result, given.wrong)
    print(table(results))
    return 0 if all(keeps_promises(each) for each in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
