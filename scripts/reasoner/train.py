#!/usr/bin/env python3
"""Trains the reasoner on a CPU. Needs PyTorch.

    cmake --build --preset release --target write_problems
    python3 scripts/reasoner/train.py --seed 1 --out build/reasoner/1.pt

An interrupted run goes on from --out; --start begins the last steps from a GGUF file of export.py,
and needs the package `gguf`. export.py makes the GGUF file. Problems come from
benchmarks/accuracy/write_problems, with seeds from 2^40 on; evaluation takes seeds below.
"""
import argparse
import dataclasses
import os
import pathlib
import random
import subprocess
import time

import torch
import torch.nn.functional as F
from model import Reasoner, Shape
from muon import Muon

TASKS = {"loop": 0.3, "once": 0.1, "recall": 0.15, "interleaved": 0.2, "lookalike": 0.4,
         "stack": 0.1}
LAST_TASKS = {"loop": 0.1, "once": 0.15, "recall": 0.2, "interleaved": 0.2, "lookalike": 0.3,
              "stack": 0.25}
BATCH_SYMBOLS = 5000
LONGEST = 1150
LAST_STAGE = 60
ANSWER_WEIGHT = 8.0
FIRST_SEED = 1 << 40
MATRIX_RATE, OTHER_RATE = 0.006, 0.003
LAST_RATE = 0.25


class Source:
    """Problems from the evaluation's own generator."""

    def __init__(self, program: str):
        listed = subprocess.run([program, "--symbols"], capture_output=True, text=True, check=True)
        names = listed.stdout.split()
        self.symbols, self.last_round = len(names), names.index("R00")
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def problem(self, task: str, size: tuple, seed: int):
        self.process.stdin.write(f"{task} {size[0]} {size[1]} {size[2]} {seed}\n")
        self.process.stdin.flush()
        symbols = [int(symbol) for symbol in self.process.stdout.readline().split()]
        return symbols, self.process.stdout.readline().strip()


def draw_size(rng: random.Random, task: str, stage: int, draws: int = 2):
    """(variables, lines, steps) at a stage, and about how many symbols that makes."""
    def draw_many(least: int, most: int):
        """Rather many than few: a value stated long ago, among others, is what is hard."""
        return max(rng.randint(least, most) for _ in range(draws))

    variables = draw_many(2, min(12, 2 + stage))
    if task in ("loop", "once"):
        lines = rng.randint(1, min(12, 1 + stage))
        most = min(24, max(1, stage * 2 // lines), (LONGEST - 50 - 6 * lines) // (12 * lines + 1))
        steps = draw_many(1, max(1, most))
        return (variables, lines, steps), 20 + variables + 6 * lines + steps * (12 * lines + 1)
    if task == "recall":
        steps = draw_many(4, min(750, 13 * stage))
        return (variables, 1, steps), variables + steps * 3 // 2
    if task == "interleaved":
        steps = draw_many(1, min(62, 2 * stage))
        return (variables, 1, steps), variables + 18 * steps
    if task == "stack":
        steps = draw_many(1, min(118, 4 * stage))
        return (variables, 1, steps), variables + 10 * steps
    # Many records from the start: among two or three, the newest value is right too often. Few
    # steps at first, when most values stand where they were first written.
    records, names = rng.randint(4, 8), rng.randint(1, min(5, 1 + stage // 4))
    steps = rng.randint(6, 40) if stage < 4 else draw_many(20, min(275, 40 + 7 * stage))
    return (records, names, steps), 3 * records * names + steps * 4


def collate(problems, last_round: int):
    """Symbols [problem, place], targets there (-1: nothing to learn), their roles and weights.

    What follows a program's last round, its answers, is rare, and weighs more.
    """
    longest = max(len(symbols) for symbols, _ in problems)
    symbols = torch.zeros(len(problems), longest, dtype=torch.long)
    targets = torch.full((len(problems), longest), -1)
    roles = torch.zeros(len(problems), longest, dtype=torch.uint8)
    weights = torch.ones(len(problems), longest)
    for row, (given, parts) in enumerate(problems):
        symbols[row, : len(given)] = torch.tensor(given)
        for place in range(1, len(given)):
            if parts[place] != "g":
                targets[row, place - 1] = given[place]
                roles[row, place - 1] = ord(parts[place])
        if last_round in given:
            weights[row, given.index(last_round) :] = ANSWER_WEIGHT
    return symbols, targets, roles, weights


class Progress:
    """A running share of right predictions for each task and role, and each task's stage."""

    def __init__(self):
        self.right = {task: {role: 0.0 for role in "sla"} for task in TASKS}
        self.stage = dict.fromkeys(TASKS, 1)
        self.since = dict.fromkeys(TASKS, 0)

    def note(self, task, hits, roles):
        for role in "sla":
            mask = roles == ord(role)
            if mask.any():
                share = hits[mask].float().mean().item()
                self.right[task][role] += 0.06 * (share - self.right[task][role])
        self.since[task] += 1
        parts = [self.right[task]["l"]]
        if (roles == ord("s")).any():
            parts.append(self.right[task]["s"])
        if min(parts) > 0.98 and self.since[task] > 15 and self.stage[task] < LAST_STAGE:
            self.stage[task] += 1 + self.stage[task] // 6
            self.since[task] = 0

    def draw_task(self, rng: random.Random, is_finishing: bool):
        """Tasks that have stages before them count double; the last steps are for the hard ones."""
        if is_finishing:
            return rng.choices(list(LAST_TASKS), list(LAST_TASKS.values()))[0]
        behind = {task: 2 if stage < LAST_STAGE else 1 for task, stage in self.stage.items()}
        return rng.choices(list(TASKS), [TASKS[task] * behind[task] for task in TASKS])[0]

    def line(self):
        def one(task):
            shares = " ".join(f"{role} {self.right[task][role]:.3f}" for role in "sla")
            return f"{task} {self.stage[task]}: {shares}"
        return "; ".join(one(task) for task in TASKS)


class Training:
    def __init__(self, options):
        torch.manual_seed(options.seed)
        self.options = options
        self.source = Source(options.problems)
        self.model = Reasoner(Shape(vocabulary=self.source.symbols, layers=options.layers))
        matrices, others = [], []
        for name, weight in self.model.named_parameters():
            (matrices if weight.dim() == 2 and "embd" not in name else others).append(weight)
        self.muon = Muon(matrices, MATRIX_RATE)
        self.adam = torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0)
        self.progress, self.step = Progress(), 0
        if options.out.exists():
            self.load()
        elif options.start:
            self.begin_from(options.start)

    def begin_from(self, path: str):
        import gguf

        weights = {tensor.name: torch.from_numpy(tensor.data.astype("float32"))
                   for tensor in gguf.GGUFReader(path).tensors}
        self.model.load_state_dict(weights)
        self.progress.stage = dict.fromkeys(TASKS, LAST_STAGE)
        self.step = self.options.steps

    def load(self):
        saved = torch.load(self.options.out)
        if saved["seed"] != self.options.seed:
            raise SystemExit(f"{self.options.out} is of --seed {saved['seed']}: "
                             "go on with that, or give another --out")
        self.model.load_state_dict(saved["model"])
        self.muon.load_state_dict(saved["muon"])
        self.adam.load_state_dict(saved["adam"])
        vars(self.progress).update(saved["progress"])
        self.step = saved["step"]

    def save(self):
        self.options.out.parent.mkdir(parents=True, exist_ok=True)
        part = self.options.out.with_suffix(".part")
        torch.save({"model": self.model.state_dict(), "shape": dataclasses.asdict(self.model.shape),
                    "muon": self.muon.state_dict(), "adam": self.adam.state_dict(),
                    "progress": vars(self.progress), "step": self.step,
                    "seed": self.options.seed}, part)
        os.replace(part, self.options.out)

    def batch(self, rng: random.Random, task: str):
        stage = self.progress.stage[task]
        if not self.is_finishing() and rng.random() < 0.3:
            stage = rng.randint(1, stage)
        size, length = draw_size(rng, task, stage, 3 if self.is_finishing() else 2)
        seed = FIRST_SEED + ((self.options.seed << 32) + self.step) * 4096
        count = min(4096, max(3, BATCH_SYMBOLS // length))
        problems = [self.source.problem(task, size, seed + i) for i in range(count)]
        return collate(problems, self.source.last_round)

    def is_finishing(self):
        return self.step >= self.options.steps

    def rate(self):
        if self.is_finishing():
            return LAST_RATE * (1 - (self.step - self.options.steps) / self.options.finish)
        left = 1 - self.step / self.options.steps
        return min(1.0, self.step / 50) * min(1.0, max(0.02, left / 0.5))

    def set_rates(self):
        rate = self.rate()
        for optimiser, base in ((self.muon, MATRIX_RATE), (self.adam, OTHER_RATE)):
            for group in optimiser.param_groups:
                group["lr"] = base * rate

    def learn(self):
        rng = random.Random(f"{self.options.seed} {self.step}")
        task = self.progress.draw_task(rng, self.is_finishing())
        symbols, targets, roles, weights = self.batch(rng, task)
        wanted = targets >= 0
        if not wanted.any():
            return
        logits = self.model(symbols, wanted)
        losses = F.cross_entropy(logits, targets[wanted], reduction="none")
        loss = (losses * weights[wanted]).sum() / weights[wanted].sum()
        self.muon.zero_grad(), self.adam.zero_grad()
        loss.backward()
        self.set_rates()
        self.muon.step(), self.adam.step()
        self.progress.note(task, logits.argmax(-1) == targets[wanted], roles[wanted])

    def run(self):
        told = time.time()
        while self.step < self.options.steps + self.options.finish:
            self.learn()
            self.step += 1
            if time.time() - told > 30:
                told = time.time()
                print(f"step {self.step}: {self.progress.line()}", flush=True)
                self.save()
        self.save()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=9600)
    parser.add_argument("--finish", type=int, default=4600,
                        help="steps after those, on long problems, the rate falling once more")
    parser.add_argument("--start", help="a model to give those last steps to, without the others")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--problems", default="build/release/benchmarks/accuracy/write_problems")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    Training(options).run()


if __name__ == "__main__":
    main()
