"""Training: ``python -m training.train FOLDER``.

Workers, one for each core, read batches of their own and share their gradients. What a step reads
and its learning rate depend on its number alone (``training.schedule``): a run that was interrupted
goes on as if it had not been.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from safetensors.torch import save_file
from torch import nn

from training import tokenizer as vocabulary
from training.batches import LENGTHS, TOKENS, Batch, batches
from training.model import Llama, causal_mask, rotation
from training.schedule import BLOCK, STEPS, rate
from training.shape import SHAPE

SEED: Final = 20251125

_RATE: Final = 3e-3
_WEIGHT_DECAY: Final = 0.05
_LONGEST_GRADIENT: Final = 1.0

#: Workers that share a step, by default and for the shipped model.
WORKERS: Final = 2


@dataclass(frozen=True)
class Plan:
    folder: Path
    steps: int
    seed: int
    workers: int
    compile: bool

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"


def train(plan: Plan) -> None:
    """Leaves ``model.safetensors`` and the checkpoint it comes from in the folder.

    Raises ValueError if the plan has more steps than the schedule.
    """
    if not 0 < plan.steps <= STEPS:
        raise ValueError(f"steps must be from 1 to {STEPS}, not {plan.steps}")
    plan.folder.mkdir(parents=True, exist_ok=True)
    if not (plan.folder / "tokenizer.json").exists():
        vocabulary.train(plan.seed, plan.folder)
    with tempfile.TemporaryDirectory() as place:
        meeting = f"file://{place}/workers"
        multiprocessing.spawn(_work, (plan, meeting), plan.workers)


def _work(worker: int, plan: Plan, meeting: str) -> None:
    """All of one worker's part; the first also writes the files and says how it goes."""
    torch.set_num_threads(1)
    torch.manual_seed(plan.seed)
    distributed.init_process_group(
        "gloo", init_method=meeting, rank=worker, world_size=plan.workers
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Llama(SHAPE).to(device)
    optimizers = _optimizers(model)
    step = _resume(plan, model, optimizers)
    loss_of = _loss(model, device, compiled=plan.compile)
    report = _Report(plan.workers)
    stream = batches(vocabulary.load(plan.folder), plan.seed, worker, step // BLOCK)
    while step < plan.steps:
        share = rate(step)
        report.add(*_gradient(model, loss_of, next(stream), device))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = _RATE * share
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        if worker == 0 and step % BLOCK == 0:
            report.tell(step, share)
            if step % (2 * BLOCK) == 0:
                _save(plan, model, optimizers, step)
    if worker == 0:
        _save(plan, model, optimizers, step)
        save_file(model.weights(), plan.folder / "model.safetensors")
    distributed.destroy_process_group()


class _Report:
    """The mean loss and the speed since the last line."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._begin()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._steps, self._loss, self._weight = 0, 0.0, 0.0

    def add(self, loss: float, weight: float) -> None:
        self._steps += 1
        self._loss += loss
        self._weight += weight

    def tell(self, step: int, share: float) -> None:
        speed = self._steps * TOKENS * self._workers / (time.monotonic() - self._since)
        loss = self._loss / self._weight
        print(f"step {step} loss {loss:.4f} rate {share:.3f} {speed:.0f} tokens/s", flush=True)
        self._begin()


def _optimizers(model: Llama) -> list[torch.optim.Optimizer]:
    """Muon for the matrices (https://arxiv.org/abs/2502.16982), AdamW for all else."""
    matrices = [each for each in model.layers.parameters() if each.ndim == 2]
    others = [model.embed_tokens.weight, *(each for each in model.parameters() if each.ndim == 1)]
    return [
        torch.optim.Muon(
            matrices, lr=_RATE, weight_decay=_WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _loss(model: Llama, device: torch.device, *, compiled: bool) -> Any:
    """The model in bfloat16, with all that depends only on a batch's length at hand."""
    forward = torch.compile(model, dynamic=True) if compiled else model
    cosine, sine = rotation(SHAPE, LENGTHS[-1])
    cosine, sine = cosine.to(device, torch.bfloat16), sine.to(device, torch.bfloat16)
    mask = causal_mask(LENGTHS[-1]).to(device, torch.bfloat16)

    def loss_of(batch: Batch) -> torch.Tensor:
        length = batch.tokens.shape[1]
        with torch.autocast(device.type, torch.bfloat16):
            found: torch.Tensor = forward(
                *batch, cosine[:length], sine[:length], mask[:length, :length]
            )
            return found

    return loss_of


def _gradient(
    model: Llama, loss_of: Any, batch: Batch, device: torch.device
) -> tuple[float, float]:
    """Leaves the mean gradient of all workers' batches; the sums of loss and weight."""
    batch = Batch(*(each.to(device) for each in batch))
    loss = loss_of(batch)
    loss.backward()
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    sums = torch.stack((loss.detach(), batch.weights.sum()))
    flat = torch.cat([*(each.flatten() for each in gradients), sums]).cpu()
    distributed.all_reduce(flat)
    sums = flat[-2:]
    parts = flat[:-2].split([each.numel() for each in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_((part / sums[1]).view_as(gradient))
    nn.utils.clip_grad_norm_(model.parameters(), _LONGEST_GRADIENT)
    return float(sums[0]), float(sums[1])


def _save(plan: Plan, model: Llama, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizers": [each.state_dict() for each in optimizers],
    }
    unfinished = plan.checkpoint.with_suffix(".tmp")
    torch.save(state, unfinished)
    unfinished.replace(plan.checkpoint)


def _resume(plan: Plan, model: Llama, optimizers: list[torch.optim.Optimizer]) -> int:
    """The step to go on from: that of the checkpoint, if there is one."""
    if not plan.checkpoint.exists():
        return 0
    state = torch.load(plan.checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Train Cria.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS, help="where to stop")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    given = parser.parse_args(arguments)
    train(Plan(given.folder, given.steps, given.seed, given.workers, not given.no_compile))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
