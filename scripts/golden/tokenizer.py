#!/usr/bin/env python3
"""Writes reference token ids of 1,000 varied strings under SmolLM2's own vocabulary.

usage: tokenizer.py MODEL.gguf OUT.json

Needs the PyPI packages `gguf` and `tokenizers`. The reference is Hugging Face's `tokenizers`
with the file's vocabulary and merges, and the pre-tokenizers of SmolLM2's tokenizer.json:
single digits, then GPT-2's byte-level expression. (transformers' GGUF loader leaves the digits
step out, so it is no reference here.) The strings come from a seeded generator: the same
arguments write the same file.
"""

import argparse
import json
import random

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

CONTROL = 3
COUNT = 1000

WORDS = """the quick brown fox jumps over lazy dog attention cache layer token memory prune
naïve façade Übergröße señor çedilla Ångström Łódź żółć ærø smörgåsbord crème brûlée
Москва данные внимание Ελληνικά γλώσσα עברית مرحبا العالم हिन्दी भाषा ไทย ภาษา 한국어 토큰 日本語
漢字仮名交じり 人工知能 中文分词 缓存 Việt Nam tiếng đặc biệt İstanbul ﬁne ﬂow ℝⁿ ∑ ≤ ∞ π² ½ Ⅷ ٣٤٥ ९८७""".split()
CONTRACTIONS = ["I'm", "you're", "it's", "we'll", "they've", "he'd", "can't", "DON'T", "IT'S", "o'clock",
                "'s", "''", "'tis", "rock'n'roll", "it’s", "l'été"]
EMOJI = ["😀", "🙂", "🚀", "👍🏽", "👩‍💻", "🏳️‍🌈", "🇩🇪", "❤️", "♻", "👨‍👩‍👧‍👦", "🤷🏿‍♀️", "☕", "✅", "🀄"]
SPACES = [" ", "  ", "   ", "    ", "\t", "\t\t", " \t ", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\u180e",
          "\u0085", "        ", "\x0b", "\x0c"]
NEWLINES = ["\n", "\r\n", "\r", "\n\n", "\r\n\r\n", " \n", "\n ", "\n\t", "\n\n\n", "\r\r\n"]
CODE = ["for (int i = 0; i < n; ++i) {", "    return x;", "}", "def f(a, *b, **c): pass", "std::vector<float> v;",
        "a->b[c]&=~0xFFu;", "// comment", "/* block */", "#include <vector>", "SELECT * FROM t WHERE id=42;",
        "<div class=\"x\">&nbsp;</div>", "{\"key\": [1, 2.5e-3, null]}", "if x != y:", "\t\tcase 7: break;",
        "$HOME/.cache/*.gguf", "s/\\d+/\\\\n/g", "λx. x²", "==", "!==", "...", "--no-deps", "::", "a.b.c()", "%s\\n"]
ODD = ["\u0301", "e\u0301", "\u202e", "\ufeff", "\ufffd", "\U000e0001", "\u0000", "\x01", "\x04", "\x06", "\x1b[0m", "\x7f",
       "\u0600", "\u200d", "\ufe0f", "\u20e3", "\U0010ffff", "\U000401ff", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "ｆｕｌｌ", "ª", "º", "ʰ", "ᾳ", "ſ", "'ſ",
       "K", "ǅ", "\u1680", "٠١٢", "一二三", "㊿", "〇", "ⅷ", "①", "¼"]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<empty_output>", "<|im_", "|>", "<|im_end|",
           "<|IM_END|>", "<file_sep>"]
CHAT = "<|im_start|>user\nHow many r's are in strawberry?<|im_end|>\n<|im_start|>assistant\n"


def number(rng):
    return rng.choice([str(rng.randrange(10 ** rng.randrange(1, 13))), f"{rng.random():.6f}", f"1,{rng.randrange(1000):03},000",
                       f"{rng.randrange(1990, 2040)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
                       f"0x{rng.randrange(1 << 32):08X}", f"{rng.randrange(100)}%", f"v{rng.randrange(9)}.{rng.randrange(30)}"])


def any_character(rng):
    while True:
        code = rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x10000), rng.randrange(0x110000)])
        if not 0xD800 <= code < 0xE000:
            return chr(code)


KINDS = {
    "prose": lambda rng: " ".join(rng.choice(WORDS + CONTRACTIONS) for _ in range(rng.randrange(3, 12))) + rng.choice(".!?…,"),
    "code": lambda rng: rng.choice(NEWLINES).join(rng.choice(CODE) for _ in range(rng.randrange(1, 5))),
    "digits": lambda rng: rng.choice([" ", "  ", "", ", ", "\n"]).join(number(rng) for _ in range(rng.randrange(1, 5))),
    "emoji": lambda rng: "".join(rng.choice(EMOJI + [" ", "ok"]) for _ in range(rng.randrange(1, 9))),
    "spaces": lambda rng: "".join(rng.choice(SPACES) * rng.randrange(1, 4) + rng.choice(WORDS + ["7", "'s", "!", ""])
                                  for _ in range(rng.randrange(1, 6))),
    "newlines": lambda rng: "".join(rng.choice(NEWLINES) + rng.choice(WORDS + [" x", "3", ""]) for _ in range(rng.randrange(1, 7))),
    "odd": lambda rng: "".join(rng.choice(ODD + WORDS + ["a", " "]) for _ in range(rng.randrange(1, 8))),
    "special": lambda rng: "".join(rng.choice(SPECIAL + [" ", "hi", "\n", "x y"]) for _ in range(rng.randrange(1, 7))),
    "any": lambda rng: "".join(any_character(rng) for _ in range(rng.randrange(1, 20))),
    "ascii": lambda rng: "".join(chr(rng.randrange(32, 127)) for _ in range(rng.randrange(1, 60))),
}


def strings():
    """1,000 distinct strings, all kinds in turn, a few fixed ones first."""
    rng = random.Random(20240607)
    found = {"": None, " ": None, "\n": None, CHAT: None, "a" * 200: None, " " * 200: None, "=" * 120: None, "ab" * 90: None}
    kinds = list(KINDS.values())
    turn = 0
    while len(found) < COUNT:
        found[kinds[turn % len(kinds)](rng)] = None
        turn += 1
    return list(found)


def reference(path):
    """A tokenizer of Hugging Face's library over the vocabulary of the GGUF file at `path`."""
    fields = GGUFReader(path).fields
    tokens, kinds, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type", "merges"))
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)
                                  for token, kind in zip(tokens, kinds) if kind == CONTROL])
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    arguments = parser.parse_args()
    tokenizer = reference(arguments.model)
    cases = [[text, tokenizer.encode(text, add_special_tokens=False).ids] for text in strings()]
    with open(arguments.out, "w", encoding="utf-8") as out:
        lines = (json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in cases)
        out.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
