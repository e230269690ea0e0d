#!/usr/bin/env python3
"""Compares the decoder's speed with llama.cpp's: same file, same threads, in turns, medians.

needs: pip install llama-cpp-python    (builds llama.cpp from its sources, about ten minutes)

llama.cpp runs with flash attention off and on, and its better figure counts. Where it crashes with
its repacked weights (seen on virtual machines with AMX), it runs without them and the table says so.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
WAYS = [(False, True), (True, True)]  # (flash attention, repacked weights)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(MODEL), help="GGUF file; default: the demo's")
    parser.add_argument("--decoder", default=str(ROOT / "build/release/examples/decoder/decoder"),
                        help="the built program")
    parser.add_argument("--threads", type=int, default=2, help="threads of both (default %(default)s)")
    parser.add_argument("--contexts", type=int, nargs="+", default=[512, 8000],
                        help="tokens seen before decoding (default 512 8000)")
    parser.add_argument("--tokens", type=int, default=48, help="decoded at each point")
    parser.add_argument("--rounds", type=int, default=3, help="turns that each program takes")
    parser.add_argument("--budget", default="25%", help="of the run under Lethe")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_llama_cpp(options, context, flash_attention, repack):
    """Seconds of one prefill and the median of one decode step; runs in a process of its own."""
    import llama_cpp

    defaults = llama_cpp.llama_cpp.llama_model_default_params

    def parameters():
        chosen = defaults()
        chosen.use_extra_bufts = repack
        return chosen

    llama_cpp.llama_cpp.llama_model_default_params = parameters
    llama = llama_cpp.Llama(options.model, n_ctx=context + options.tokens, n_batch=512, n_ubatch=512,
                            n_threads=options.threads, n_threads_batch=options.threads,
                            flash_attn=flash_attention, verbose=False)
    start = time.perf_counter()
    llama.eval([(i * 7919 + 13) % llama.n_vocab() for i in range(context)])
    prefill = time.perf_counter() - start
    steps = []
    for i in range(options.tokens):
        start = time.perf_counter()
        llama.eval([100 + i])
        steps.append(time.perf_counter() - start)
    return {"prefill": context / prefill, "decode": 1 / statistics.median(steps)}


def run_llama_cpp(options, context, flash_attention, repack):
    """The same in a child, since it may crash; None when it did."""
    work = json.dumps([context, flash_attention, repack])
    command = [sys.executable, __file__, "--worker", work, "--model", options.model,
               "--threads", str(options.threads), "--tokens", str(options.tokens)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode < 0:
        return None
    if child.returncode != 0:
        sys.exit(f"llama.cpp failed: {child.stderr.strip().splitlines()[-1]}")
    return json.loads(child.stdout.splitlines()[-1])


def run_decoder(options, context):
    """Tokens per second of our prefill and decoding, with the whole cache and under Lethe."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "bench.json"
        command = [options.decoder, "bench", "-m", options.model, "-t", str(options.threads),
                   "-c", str(context), "-n", str(options.tokens), "-b", options.budget,
                   "--policy", "none,lethe", "--json", str(out)]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode != 0:
            sys.exit(f"the decoder failed: {child.stderr.strip()}")
        points = {point["policy"]: point for point in json.loads(out.read_text())["points"]}
    return {"prefill": points["none"]["prefill_tokens_per_second"],
            "decode": points["none"]["tokens_per_second"],
            "lethe": points["lethe"]["tokens_per_second"]}


def usable_ways(options):
    """The ways in which llama.cpp runs here; without repacked weights where these crash it."""
    if run_llama_cpp(options, 64, *WAYS[0]) is not None:
        return WAYS
    print("llama.cpp crashes with repacked weights on this machine: it runs without them\n")
    return [(flash_attention, False) for flash_attention, _ in WAYS]


def median_of(results, key):
    return statistics.median(result[key] for result in results)


def compare(options, context, ways):
    ours, theirs = [], {way: [] for way in ways}
    for _ in range(options.rounds):
        ours.append(run_decoder(options, context))
        for way in ways:
            theirs[way].append(run_llama_cpp(options, context, *way))
    rows = []
    for name, own, other in [("prefill", "prefill", "prefill"), ("decode, whole cache", "decode", "decode"),
                             (f"decode, Lethe {options.budget}", "lethe", "decode")]:
        best = max(median_of(results, other) for results in theirs.values())
        mine = median_of(ours, own)
        rows.append((context, name, mine, best, mine / best))
    return rows


def check_installed(options):
    try:
        import llama_cpp  # noqa: F401
    except ImportError:
        sys.exit("llama-cpp-python is missing: pip install llama-cpp-python")
    for file in (options.model, options.decoder):
        if not pathlib.Path(file).exists():
            sys.exit(f"{file} is missing: scripts/demo.sh builds the decoder and fetches the model")


def main():
    options = arguments()
    if options.worker:
        print(json.dumps(measure_llama_cpp(options, *json.loads(options.worker))))
        return
    check_installed(options)
    ways = usable_ways(options)
    print(f"{'context':>8}  {'what':<22}{'decoder':>12}{'llama.cpp':>12}{'ratio':>8}   (tokens/s)")
    for context in options.contexts:
        for row in compare(options, context, ways):
            print(f"{row[0]:>8}  {row[1]:<22}{row[2]:>12.1f}{row[3]:>12.1f}{row[4]:>7.2f}x", flush=True)


if __name__ == "__main__":
    main()
