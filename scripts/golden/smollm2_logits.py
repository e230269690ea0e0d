#!/usr/bin/env python3
"""Writes reference logits of SmolLM2-135M-Instruct on a fixed text.

usage: smollm2_logits.py MODEL.gguf OUT.json

Needs the PyPI packages `gguf`, `tokenizers`, `torch` and `transformers`, which loads the GGUF file
and dequantises it to f32. Kept are, at 8 positions, the logits of 256 tokens spread over the
vocabulary, and at every position the most likely token, its lead over the next one and the
logarithm of the sum of exponentials over all tokens.
"""

import argparse
import json
import pathlib

import torch
from tokenizer import reference
from transformers import AutoModelForCausalLM

TEXT = """<|im_start|>user
Explain in two sentences why the sky is blue.<|im_end|>
<|im_start|>assistant
The sky looks blue because air scatters the short waves of sunlight more than the long ones, so blue light
reaches us from all sides. At sunset the light crosses more air, which takes most of the blue away and
leaves red and orange."""
COUNT = 64
POSITIONS = [0, 1, 5, 13, 29, 41, 55, 63]
IDS = [i * 191 + 7 for i in range(256)]


def rounded(values):
    return [float(f"{value:.6g}") for value in values.tolist()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokens = reference(str(arguments.model)).encode(TEXT, add_special_tokens=False).ids[:COUNT]
    model = AutoModelForCausalLM.from_pretrained(arguments.model.parent, gguf_file=arguments.model.name,
                                                 dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    best = logits.topk(2)
    golden = {"tokens": tokens, "positions": POSITIONS, "ids": IDS,
              "logits": [rounded(logits[p, IDS]) for p in POSITIONS],
              "argmax": best.indices[:, 0].tolist(),
              "lead": rounded(best.values[:, 0] - best.values[:, 1]),
              "log_sum_exp": rounded(logits.logsumexp(-1))}
    with open(arguments.out, "w", encoding="utf-8") as out:
        lines = (f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in golden.items())
        out.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
