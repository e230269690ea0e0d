#!/usr/bin/env python3
"""Writes reference logits of tiny random llama, qwen2 and qwen3 models in every tensor type.

usage: tiny_models.py OUT.json

Needs the PyPI packages `gguf`, `torch` and `transformers`. Each model is written as a GGUF file
whose bytes follow the rules below, loaded by transformers (which dequantises it) and run in f32.
tests/decoder/tiny_model.hpp makes the same files by the same rules, so that only the logits are
kept. The same arguments write the same file, up to the last digits of torch's arithmetic.
"""

import argparse
import contextlib
import io
import json
import pathlib
import tempfile

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM

ARCHITECTURES = ["llama", "qwen2", "qwen3"]
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"]
LAYERS, WIDTH, FEED_FORWARD, HEADS, KV_HEADS, VOCABULARY, CONTEXT = 2, 256, 512, 4, 2, 64, 128
HEAD_CHANNELS = {"llama": 64, "qwen2": 64, "qwen3": 128}
ROPE_BASE = {"llama": 10000.0, "qwen2": 1000000.0, "qwen3": 1000000.0}
TOKENS = [(i * i * 7 + 3 * i + 5) % VOCABULARY for i in range(40)]
POSITIONS = [0, 1, 7, 39]

# Bytes of a tensor: SplitMix64 from the FNV-1a hash of its name, little endian, and in each block
# byte[offset] = byte[offset] & mask | value for these (offset, mask, value), which keeps scales
# and exponents where weights are about 0.05.
FIXES = {
    "F32": [(2, 0x7F, 0), (3, 0x80, 0x3D)],
    "F16": [(1, 0x83, 0x28)],
    "BF16": [(0, 0x7F, 0), (1, 0x80, 0x3D)],
    "Q8_0": [(1, 0, 0x12)],
    "Q4_0": [(1, 0, 0x22)],
    "Q4_1": [(1, 0, 0x22), (3, 0, 0xAE)],
    "Q4_K": [(1, 0, 0x0C), (3, 0, 0x17)],
    "Q6_K": [(209, 0, 0x03)],
    "norm": [(2, 0x7F, 0x80), (3, 0, 0x3F)],  # F32 from 1 to 2
}


def random_bytes(name, count):
    mask = (1 << 64) - 1
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 & mask
    words = (np.arange(1, count // 8 + 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) + np.uint64(state)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (words ^ (words >> np.uint64(31))).astype("<u8").view(np.uint8)[:count].copy()


def tensors(architecture):
    """(name, shape with the fastest dimension last, whether it is in the model's tensor type)."""
    queries, keys = HEADS * HEAD_CHANNELS[architecture], KV_HEADS * HEAD_CHANNELS[architecture]
    yield "token_embd.weight", (VOCABULARY, WIDTH), True
    yield "output_norm.weight", (WIDTH,), False
    if architecture != "qwen2":  # whose output is the embedding's matrix
        yield "output.weight", (VOCABULARY, WIDTH), True
    for layer in range(LAYERS):
        prefix = f"blk.{layer}."
        yield prefix + "attn_norm.weight", (WIDTH,), False
        yield prefix + "ffn_norm.weight", (WIDTH,), False
        yield prefix + "attn_q.weight", (queries, WIDTH), True
        yield prefix + "attn_k.weight", (keys, WIDTH), True
        yield prefix + "attn_v.weight", (keys, WIDTH), True
        yield prefix + "attn_output.weight", (WIDTH, queries), True
        yield prefix + "ffn_gate.weight", (FEED_FORWARD, WIDTH), True
        yield prefix + "ffn_up.weight", (FEED_FORWARD, WIDTH), True
        yield prefix + "ffn_down.weight", (WIDTH, FEED_FORWARD), True
        if architecture == "qwen2":
            yield prefix + "attn_q.bias", (queries,), False
            yield prefix + "attn_k.bias", (keys,), False
            yield prefix + "attn_v.bias", (keys,), False
        if architecture == "qwen3":
            yield prefix + "attn_q_norm.weight", (HEAD_CHANNELS[architecture],), False
            yield prefix + "attn_k_norm.weight", (HEAD_CHANNELS[architecture],), False


def tensor_data(name, shape, kind):
    """Bytes of a tensor, a row of the array per row of the tensor."""
    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = random_bytes(name, int(np.prod(shape)) // elements * size).reshape(-1, size)
    for offset, mask, value in FIXES["norm" if "norm" in name else kind]:
        blocks[:, offset] = blocks[:, offset] & mask | value
    return blocks.reshape(*shape[:-1], -1)


def write_model(path, architecture, kind):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_CHANNELS[architecture])
    writer.add_value_length(HEAD_CHANNELS[architecture])
    writer.add_rope_dimension_count(HEAD_CHANNELS[architecture])
    writer.add_rope_freq_base(ROPE_BASE[architecture])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([chr(33 + i) for i in range(VOCABULARY - 1)] + ['!"'])
    writer.add_token_merges(['! "'])
    for name, shape, typed in tensors(architecture):
        own = kind if typed else "F32"
        writer.add_tensor(name, tensor_data(name, shape, own), raw_dtype=gguf.GGMLQuantizationType[own])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(folder, architecture, kind):
    write_model(folder / "model.gguf", architecture, kind)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)
    check_loaded(model, folder / "model.gguf")
    with torch.no_grad():
        rows = model(torch.tensor([TOKENS])).logits[0, POSITIONS]
    return [[float(f"{value:.6g}") for value in row] for row in rows.tolist()]


def check_loaded(model, path):
    """The loader leaves what it does not know at random values, so compare what can be compared."""
    state = model.state_dict()
    for tensor in gguf.GGUFReader(path).tensors:
        weights = gguf.dequantize(tensor.data, tensor.tensor_type)
        twins = [p for p in state.values() if p.shape == weights.shape
                 and np.array_equal(np.sort(p.numpy().ravel()), np.sort(weights.ravel()))]
        if not twins:
            raise SystemExit(f"{tensor.name} was not loaded")


def first_row(kind):
    """Weights of one row, dequantised."""
    data = tensor_data("blk.0.attn_k.weight", (KV_HEADS * 64, WIDTH), kind)[:1]
    if kind in ("F32", "F16"):
        data = data.view({"F32": np.float32, "F16": np.float16}[kind])
    return [float(f"{value:.9g}") for value in gguf.dequantize(data, gguf.GGMLQuantizationType[kind])[0]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = {}
    with tempfile.TemporaryDirectory() as folder:
        for architecture in ARCHITECTURES:
            for kind in TYPES:
                models[f"{architecture} {kind}"] = logits(pathlib.Path(folder), architecture, kind)
    with open(arguments.out, "w", encoding="utf-8") as out:
        lines = (f"{json.dumps(name)}:{json.dumps(rows, separators=(',', ':'))}" for name, rows in models.items())
        out.write(f'{{"tokens":{json.dumps(TOKENS)},\n"positions":{json.dumps(POSITIONS)},\n"rows":{{\n')
        out.write(",\n".join(f"{json.dumps(kind)}:{json.dumps(first_row(kind), separators=(',', ':'))}" for kind in TYPES))
        out.write('\n},\n"models":{\n')
        out.write(",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main()
