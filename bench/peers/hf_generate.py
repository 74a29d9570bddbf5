"""A peer of our decoding: Hugging Face Transformers' generate, greedy, with its cache, on the same folder and prompts.

    python hf_generate.py MODEL_DIR --batch 64 --prompt 16 --new 64

Prints one JSON line: milliseconds of a prefill (one new token) and of the whole, the medians of --rounds.
"""
import argparse
import json
import statistics
import time

import torch
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--prompt", type=int, default=16)
parser.add_argument("--new", type=int, default=64)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--device", default="cpu")
options = parser.parse_args()

torch.set_num_threads(options.threads)
model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).to(options.device).eval()
vocabulary = model.config.vocab_size
ids = torch.tensor(
    [[(b * 7919 + t * 104729 + 1) % vocabulary for t in range(options.prompt)] for b in range(options.batch)],
    device=options.device,
)


def run(count):
    began = time.perf_counter()
    with torch.no_grad():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
                             do_sample=False, pad_token_id=0)
    if options.device != "cpu":
        torch.cuda.synchronize()
    assert out.shape[1] == options.prompt + count
    return 1000 * (time.perf_counter() - began)


run(2)
print(json.dumps({
    "prefill_ms": statistics.median(run(1) for _ in range(options.rounds)),
    "whole_ms": statistics.median(run(options.new) for _ in range(options.rounds)),
}))
