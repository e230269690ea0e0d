"""A small Llama-shaped transformer: grouped queries, SwiGLU, interleaved RoPE, tied embedding."""
import dataclasses

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass
class Shape:
    vocabulary: int
    layers: int = 4
    width: int = 128
    heads: int = 4
    kv_heads: int = 2
    channels: int = 32
    hidden: int = 352
    rope_base: float = 10000.0
    epsilon: float = 1e-5


class Norm(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.epsilon = shape.epsilon

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, 0, inputs**-0.5)
    return layer


def rotate(x, turns):
    """Pairs of neighbouring channels turn by `turns` [token, pair], complex numbers of length 1."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2)


class Block(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        queries, keys = shape.heads * shape.channels, shape.kv_heads * shape.channels
        self.attn_norm, self.ffn_norm = Norm(shape), Norm(shape)
        self.attn_q = linear(shape.width, queries)
        self.attn_k = linear(shape.width, keys)
        self.attn_v = linear(shape.width, keys)
        self.attn_output = linear(queries, shape.width)
        self.ffn_gate = linear(shape.width, shape.hidden)
        self.ffn_up = linear(shape.width, shape.hidden)
        self.ffn_down = linear(shape.hidden, shape.width)
        with torch.no_grad():
            for last in (self.attn_output, self.ffn_down):
                last.weight.mul_((2 * shape.layers) ** -0.5)

    def attend(self, x, turns):
        batch, tokens, _ = x.shape
        split = lambda y: y.view(batch, tokens, -1, self.shape.channels).transpose(1, 2)
        queries = rotate(split(self.attn_q(x)), turns)
        keys = rotate(split(self.attn_k(x)), turns)
        values = split(self.attn_v(x))
        each = self.shape.heads // self.shape.kv_heads
        seen = F.scaled_dot_product_attention(
            queries, keys.repeat_interleave(each, 1), values.repeat_interleave(each, 1),
            is_causal=True)
        return self.attn_output(seen.transpose(1, 2).reshape(batch, tokens, -1))

    def forward(self, x, turns):
        x = x + self.attend(self.attn_norm(x), turns)
        y = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(y)) * self.ffn_up(y))


class Reasoner(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        nn.init.normal_(self.token_embd.weight, 0, 0.02)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape)

    def turns(self, tokens: int):
        channels = self.shape.channels
        frequencies = self.shape.rope_base ** (-torch.arange(0, channels, 2) / channels)
        angles = torch.arange(tokens)[:, None] * frequencies
        return torch.polar(torch.ones_like(angles), angles)

    def forward(self, symbols, wanted):
        """Logits at the places where `wanted` (a mask of symbols' shape) is true, one row each."""
        turns = self.turns(symbols.shape[1])
        x = self.token_embd(symbols)
        for block in self.blk:
            x = block(x, turns)
        return self.output_norm(x[wanted]) @ self.token_embd.weight.t()
