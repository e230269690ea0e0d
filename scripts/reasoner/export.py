#!/usr/bin/env python3
"""Writes a trained reasoner as a GGUF file with f16 weights. Needs PyTorch and the package `gguf`.

    python3 scripts/reasoner/export.py build/reasoner/1.pt examples/models/reasoner-1.gguf
"""
import argparse
import pathlib
import subprocess

import gguf
import numpy as np
import torch
from model import Shape

CONTEXT = 2048
NAME = "lethe reasoner"


def write_shape(writer: gguf.GGUFWriter, shape: Shape):
    writer.add_block_count(shape.layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.channels)
    writer.add_value_length(shape.channels)
    writer.add_rope_dimension_count(shape.channels)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)


def write_symbols(writer: gguf.GGUFWriter, symbols):
    """Control tokens for <pad>, <s> and </s>; all others match wherever they stand in a text."""
    control, user_defined = gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(symbols)
    writer.add_token_types([control if i < 3 else user_defined for i in range(len(symbols))])
    writer.add_token_merges([])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--problems", default="build/release/benchmarks/accuracy/write_problems")
    options = parser.parse_args()
    listed = subprocess.run([options.problems, "--symbols"], capture_output=True, text=True,
                            check=True)
    saved = torch.load(options.checkpoint)
    writer = gguf.GGUFWriter(options.out, "llama")
    writer.add_name(f"{NAME}, seed {saved['seed']}")
    writer.add_license("apache-2.0")
    write_shape(writer, Shape(**saved["shape"]))
    write_symbols(writer, listed.stdout.split("\n")[:-1])
    for name, weight in saved["model"].items():
        is_norm = weight.dim() == 1
        writer.add_tensor(name, weight.numpy().astype(np.float32 if is_norm else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
