#!/usr/bin/env python3
"""Prints the token ids that tests/decoder/sampler_test.cpp expects.

A second writing of the sampler from its description, with Python's exact integers: weights are
2^40 e^-distance by the exponential series in 31 fractional bits, the generator is xoshiro256**
seeded by SplitMix64.
"""

import math
import struct

MASK = (1 << 64) - 1
LOG2_E = 1.4426950408889634
SERIES = [round(math.log(2) ** k / math.factorial(k) * 2**31) for k in range(10)]


def single(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def weight(distance):
    halvings = distance * LOG2_E
    if halvings >= 41:
        return 0
    fixed = int(halvings * 2**32)
    whole = -(-fixed // 2**32)
    fraction = (whole << 32) - fixed
    total = 0
    for coefficient in reversed(SERIES):
        total = coefficient + (total * fraction >> 32)
    return (total << 9) >> whole


def split_mix(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        mixed = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & MASK
        yield mixed ^ mixed >> 31


def rotate(value, count):
    return ((value << count) | (value >> (64 - count))) & MASK


def xoshiro(seed):
    words = split_mix(seed)
    s = [next(words) for _ in range(4)]
    while True:
        yield rotate(s[1] * 5 & MASK, 7) * 9 & MASK
        shifted = s[1] << 17 & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = rotate(s[3], 45)


def sample(logits, temperature, top_p, numbers):
    most = max(logits)
    weights = [(weight((most - logit) / temperature), -i) for i, logit in enumerate(logits)]
    wanted = int(float(sum(w for w, _ in weights)) * top_p)
    kept = []
    for item in sorted(weights, reverse=True):
        kept.append(item)
        if sum(w for w, _ in kept) >= wanted:
            break
    bound = sum(w for w, _ in kept)
    ticket = next(draw for n in numbers if (draw := n >> (64 - bound.bit_length())) < bound)
    for w, negative in kept:
        if ticket < w:
            return -negative
        ticket -= w


def main():
    logits = [(i * 7 % 40) * 0.25 for i in range(40)]
    numbers = xoshiro(42)
    print(", ".join(str(sample(logits, 1.5, single(0.9), numbers)) for _ in range(24)))


if __name__ == "__main__":
    main()
