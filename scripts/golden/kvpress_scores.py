#!/usr/bin/env python3
"""Writes what kvpress scores and keeps of one layer of SmolLM2-135M-Instruct, and that layer.

usage: kvpress_scores.py MODEL.gguf OUT_FOLDER

Needs the PyPI packages `gguf`, `kvpress` (0.5.5, which wants `transformers` below 5.3), `tokenizers`,
`torch` and `transformers`, which loads the GGUF file and dequantises it to f32. Run by hand;
tests/kvpress_test.cpp reads the files:

    kvpress_rows.txt        keys as they stand in attention, and values
    kvpress_attention.txt   attention of each query head, the rows of all queries one after another
    kvpress_queries.txt     queries before their rotation, its frequencies, a piece of the output projection
    kvpress_scores.txt      of each method its scores, and the positions it keeps at several budgets

Two KV heads of three are taken, with the six query heads that read them, and every second pair of
channels that turn together, which leaves a head of 32 channels with the same rotary base. Numbers
are rounded before kvpress sees them, so that both sides start from the same ones; kvpress computes
in f64. A file is a line of comment and then records of three lines: name, step, rank and sizes;
the numbers, whole ones to be multiplied by the step, or decimals where that is 0; nothing.

Settings are kvpress's own but for those in capitals below, and ExpectedAttention's epsilon.
CriticalKV goes by SnapKV's scores. With its own settings neither its epsilon nor its first stage changes
what stays of this layer, so that it is recorded a second time (criticalkv_short), with a shorter window
and a larger epsilon. criticalkv_second and criticalkv_short_second are the scores of its second stage
before those of the first are put above them.
"""

import argparse
import math
import pathlib
from importlib.metadata import version
from types import SimpleNamespace

import kvpress
import torch
from smollm2_logits import TEXT
from tokenizer import reference
from transformers import AutoModelForCausalLM

TOKENS, LAYER, KV_HEADS, HEADS, CHANNELS = 64, 12, 2, 6, 32
KEPT = [48, 32, 24]
WINDOW, POOL, CHUNK, LAG, SINKS = 16, 5, 8, 12, 4
ROW_STEP, ATTENTION_STEP, WEIGHT_STEP = 2.0**-8, 2.0**-20, 2.0**-10
PROJECTED = 16
SHORT_WINDOW, LARGE_EPSILON = 8, 3e-2


class Recorded(kvpress.SnapKVPress):
    """SnapKV on recorded attention, for presses that give the scorer none."""

    attention = None

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        return super().score(module, hidden_states, keys, values, self.attention, kwargs)


class Layer(torch.nn.Module):
    """What kvpress asks of an attention layer, with the recorded tensors behind it."""

    def __init__(self, frequencies, projection):
        super().__init__()
        self.config = SimpleNamespace(num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=CHANNELS,
                                      hidden_size=PROJECTED, num_hidden_layers=1)
        self.head_dim, self.layer_idx, self.num_key_value_groups = CHANNELS, 0, HEADS // KV_HEADS
        self.q_proj = torch.nn.Identity()
        self.o_proj = SimpleNamespace(weight=projection)
        self.frequencies = frequencies

    def rotary_emb(self, _, positions):
        angles = positions[..., None].double() * self.frequencies
        angles = torch.cat([angles, angles], -1)
        return angles.cos(), angles.sin()


def rounded(tensor, step):
    return (tensor.double() / step).round() * step


def record(path):
    """The layer's tensors, rounded: keys, values, queries, attention, frequencies, projection."""
    tokens = reference(str(path)).encode(TEXT, add_special_tokens=False).ids[:TOKENS]
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32,
                                                 attn_implementation="eager")
    layer = model.model.layers[LAYER].self_attn
    queries = []
    layer.q_proj.register_forward_hook(lambda module, given, out: queries.append(out))
    with torch.no_grad():
        result = model(torch.tensor([tokens]), output_attentions=True, use_cache=True)
    width = layer.head_dim
    chosen = torch.cat([torch.arange(0, width // 2, 2), torch.arange(width // 2, width, 2)])
    cache = result.past_key_values.layers[LAYER]
    query = queries[0].view(1, TOKENS, -1, width).transpose(1, 2)[:, :HEADS][..., chosen]
    weight = layer.o_proj.weight.detach()
    weight = weight[::weight.shape[0] // PROJECTED].view(PROJECTED, -1, width)[:, :HEADS][..., chosen]
    return SimpleNamespace(keys=rounded(cache.keys[:, :KV_HEADS][..., chosen], ROW_STEP),
                           values=rounded(cache.values[:, :KV_HEADS][..., chosen], ROW_STEP),
                           queries=rounded(query, ROW_STEP),
                           attention=rounded(result.attentions[LAYER][:, :HEADS], ATTENTION_STEP),
                           frequencies=model.model.rotary_emb.inv_freq[::2].double(),
                           projection=rounded(weight.reshape(PROJECTED, -1), WEIGHT_STEP))


def presses(data):
    recorded = Recorded(window_size=WINDOW, kernel_size=POOL)
    recorded.attention = data.attention
    snapkv = kvpress.SnapKVPress(window_size=WINDOW, kernel_size=POOL)
    short = kvpress.SnapKVPress(window_size=SHORT_WINDOW, kernel_size=POOL)
    return {"knorm": kvpress.KnormPress(),
            "keydiff": kvpress.KeyDiffPress(),
            "cur": kvpress.CURPress(num_sinks=SINKS),
            "lagkv": kvpress.LagKVPress(n_sink=SINKS, lag_size=LAG),
            "snapkv": snapkv,
            "tova": kvpress.TOVAPress(),
            "mass_per_age": kvpress.ObservedAttentionPress(),
            "streaming": kvpress.StreamingLLMPress(n_sink=SINKS),
            "chunkkv": kvpress.ChunkKVPress(recorded, chunk_length=CHUNK),
            "expected_attention": kvpress.ExpectedAttentionPress(n_sink=SINKS, epsilon=1e-2),
            "criticalkv": kvpress.CriticalKVPress(snapkv),
            "criticalkv_short": kvpress.CriticalKVPress(short, epsilon=LARGE_EPSILON)}


def kept_positions(press, layer, data, attention, count):
    """Which positions of each head kvpress leaves, found again by their keys."""
    press.compression_ratio = 1 - count / TOKENS
    hidden = data.queries.transpose(1, 2).reshape(1, TOKENS, -1)
    left, _ = press.compress(layer, hidden, data.keys, data.values, attention, {})
    same = (data.keys[0, :, :, None] == left[0, :, None]).all(-1)
    assert (same.sum(1) == 1).all(), "two tokens have the same key"
    return torch.stack([head.any(1).nonzero()[:, 0] for head in same])


def results(data):
    """name -> tensor of all that kvpress finds."""
    layer = Layer(data.frequencies, data.projection)
    hidden = data.queries.transpose(1, 2).reshape(1, TOKENS, -1)
    found = {}
    for name, press in presses(data).items():
        attention = None if name == "chunkkv" else data.attention
        if name.startswith("criticalkv"):
            second = kvpress.CriticalKVPress(press.press, press.epsilon, first_stage_ratio=0)
            found[f"{name}_second"] = second.score(layer, hidden, data.keys, data.values, attention, {})[0]
        elif name not in ("chunkkv", "streaming"):
            found[name] = press.score(layer, hidden, data.keys, data.values, attention, {})[0]
        for count in KEPT:
            found[f"{name}_{count}"] = kept_positions(press, layer, data, attention, count)
    found["projected_norms"] = kvpress.CriticalKVPress.vwl1norm(data.values, layer)[0]
    return found


def pyramids():
    """window, beta, layers, tokens, mean budget, and each layer's budget."""
    rows = []
    for window, beta, layers, tokens, mean in [(8, 20, 4, 400, 100), (32, 20, 6, 2000, 1000), (32, 20, 30, 4000, 1000),
                                               (16, 10, 12, 600, 200), (64, 20, 8, 1000, 900), (32, 20, 5, 500, 60)]:
        press = kvpress.PyramidKVPress(window_size=window, beta=beta, compression_ratio=1 - mean / tokens)
        module = SimpleNamespace(config=SimpleNamespace(num_hidden_layers=layers))
        for module.layer_idx in range(layers):
            rows.append([window, beta, layers, tokens, mean, module.layer_idx, press.get_layer_budget(module, tokens)])
    return torch.tensor(rows)


def text_of(tensor, step):
    if step != 0:
        return " ".join(str(round(value / step)) for value in tensor.flatten().tolist())
    if not tensor.is_floating_point():
        return " ".join(str(value) for value in tensor.flatten().tolist())
    return " ".join(f"{value:.9g}" for value in tensor.flatten().tolist())


def write(path, records):
    with open(path, "w", encoding="utf-8") as out:
        out.write(f"# scripts/golden/kvpress_scores.py, kvpress {version('kvpress')}, torch {version('torch')}\n")
        for name, (tensor, step) in records.items():
            dimensions = " ".join(str(size) for size in tensor.shape)
            out.write(f"{name} {step:.17g} {tensor.dim()} {dimensions}\n{text_of(tensor, step)}\n\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = record(arguments.model)
    assert math.isclose(data.attention[0, 0, -1].sum().item(), 1, abs_tol=1e-4)
    below = torch.tril_indices(TOKENS, TOKENS)
    write(arguments.out / "kvpress_rows.txt",
          {"keys": (data.keys[0], ROW_STEP), "values": (data.values[0], ROW_STEP)})
    write(arguments.out / "kvpress_attention.txt",
          {"attention": (data.attention[0][:, below[0], below[1]], ATTENTION_STEP)})
    write(arguments.out / "kvpress_queries.txt",
          {"queries": (data.queries[0], ROW_STEP), "frequencies": (data.frequencies, 0),
           "output_projection": (data.projection, WEIGHT_STEP)})
    found = {name: (tensor, 0) for name, tensor in results(data).items()}
    write(arguments.out / "kvpress_scores.txt", found | {"pyramidkv": (pyramids(), 0)})


if __name__ == "__main__":
    main()
