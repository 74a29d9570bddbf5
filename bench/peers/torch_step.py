"""A peer of our optimizer step: PyTorch, with our own plain Llama or, where it is installed, Hugging Face Transformers'.

    python torch_step.py --implementation plain --padded 32 --head all

One step: gradients accumulated over micro-batches, global-norm clipping at 1, AdamW. Sequences end at --tokens and are
padded on the right to --padded. Prints what peer_loop.ts says.
"""
import argparse
import json
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional

BEGAN = time.perf_counter()
V, C, LAYERS, H, K, D, F = 2048, 128, 4, 4, 2, 32, 384


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--implementation", choices=("plain", "transformers"), default="plain")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fingerprints", type=int, default=128)
    parser.add_argument("--micro_batch", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=18)
    parser.add_argument("--padded", type=int, default=32)
    parser.add_argument("--head", choices=("all", "last"), default="all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--paced", action="store_true")
    return parser.parse_args()


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(C))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


def linear(inputs, outputs):
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=0.05)
    return layer


def rotate(x, table):
    first, second = x.chunk(2, dim=-1)
    cos, sin = table
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_norm, self.post_norm = RMSNorm(), RMSNorm()
        self.q, self.k, self.v = linear(C, H * D), linear(C, K * D), linear(C, K * D)
        self.o = linear(H * D, C)
        self.gate, self.up, self.down = linear(C, F), linear(C, F), linear(F, C)

    def forward(self, x, table):
        b, t, _ = x.shape
        h = self.input_norm(x)
        q, k, v = (
            layer(h).view(b, t, heads, D).transpose(1, 2)
            for layer, heads in ((self.q, H), (self.k, K), (self.v, K))
        )
        q, k = rotate(q, table), rotate(k, table).repeat_interleave(H // K, dim=1)
        v = v.repeat_interleave(H // K, dim=1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(mixed.transpose(1, 2).reshape(b, t, H * D))
        h = self.post_norm(x)
        return x + self.down(functional.silu(self.gate(h)) * self.up(h))


class PlainLlama(nn.Module):
    def __init__(self, padded):
        super().__init__()
        self.embedding = nn.Embedding(V, C)
        nn.init.normal_(self.embedding.weight, std=0.05)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = RMSNorm()
        angles = torch.outer(torch.arange(padded), 10000.0 ** (-torch.arange(0, D, 2) / D))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids, row):
        """Logits of all positions, or of position `row` only."""
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, (self.cos, self.sin))
        if row is not None:
            x = x[:, row]
        return functional.linear(self.norm(x), self.embedding.weight)


def plain(a):
    model = PlainLlama(a.padded).to(a.device)
    row = a.tokens - 2

    def loss(ids, _mask):
        logits = model(ids, row if a.head == "last" else None)
        wanted = logits if a.head == "last" else logits[:, row]
        return functional.cross_entropy(wanted, ids[:, a.tokens - 1])

    return model, loss, f"PyTorch {torch.__version__}"


def transformers_llama(a):
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=C, num_hidden_layers=LAYERS, num_attention_heads=H, num_key_value_heads=K,
        head_dim=D, intermediate_size=F, tie_word_embeddings=True, max_position_embeddings=256,
    )
    model = transformers.LlamaForCausalLM(config).to(a.device).train()

    def loss(ids, mask):
        labels = torch.full_like(ids, -100)
        labels[:, a.tokens - 1] = ids[:, a.tokens - 1]
        return model(input_ids=ids, attention_mask=mask, labels=labels).loss

    return model, loss, f"transformers {transformers.__version__}, PyTorch {torch.__version__}"


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    model, loss_of, name = (plain if a.implementation == "plain" else transformers_llama)(a)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=1e-4)
    ids = torch.randint(0, V, (a.fingerprints, a.padded), device=a.device)
    mask = torch.zeros_like(ids)
    mask[:, : a.tokens] = 1

    def step():
        total = 0.0
        for part, part_mask in zip(ids.split(a.micro_batch), mask.split(a.micro_batch)):
            loss = loss_of(part, part_mask) * (len(part) / a.fingerprints)
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if a.device == "cuda":
            torch.cuda.synchronize()
        return total

    def timed():
        began = time.perf_counter()
        loss = step()
        return {"ms": (time.perf_counter() - began) * 1e3, "loss": loss}

    first = timed()
    facts = {
        "peer": f"{name}, {a.device}, {a.threads} threads",
        "parameters": sum(p.numel() for p in model.parameters()),
        "fingerprints": a.fingerprints,
        "tokens": a.fingerprints * a.padded,
        "first_step_ms": first["ms"],
        "to_first_step_ms": (time.perf_counter() - BEGAN) * 1e3,
        "loss": first["loss"],
    }
    if a.paced:
        print(json.dumps(facts), flush=True)
        for _ in sys.stdin:
            print(json.dumps(timed()), flush=True)
        return
    timed()
    steps = [timed() for _ in range(a.steps)]
    facts["step_ms"] = statistics.median(step["ms"] for step in steps)
    facts["min_ms"] = min(step["ms"] for step in steps)
    facts["fingerprints_per_s"] = a.fingerprints / facts["step_ms"] * 1e3
    facts["loss"] = steps[-1]["loss"]
    print(json.dumps(facts))


main()
