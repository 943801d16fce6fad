"""Times PyTorch on the work of examples/train_gpt: the same model, optimiser, schedule, batches' shape and text.

    python torch_gpt.py --data text.txt [--devices 2] [nanoGPT's options]

Any Python with torch (pip install torch). With --devices N it starts N processes that train with DistributedDataParallel
over Gloo, batch_size each, and the cores shared out. Prints one line an interval and a JSON summary at the end:
validation loss, seconds in all (evaluation apart), median step in milliseconds, tokens a second.
"""

import argparse
import json
import math
import os
import statistics
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.nn.functional as F


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--data", required=True)
    p.add_argument("--devices", type=int, default=1)
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="shared out over the processes")
    p.add_argument("--compile", action="store_true")
    for name, default in dict(batch_size=12, block_size=64, n_layer=4, n_head=4, n_embd=128, max_iters=2000,
                              lr_decay_iters=2000, warmup_iters=100, eval_interval=250, eval_iters=20,
                              log_interval=100, seed=1337).items():
        p.add_argument(f"--{name}", type=int, default=default)
    for name, default in dict(learning_rate=1e-3, min_lr=1e-4, weight_decay=0.1, beta1=0.9, beta2=0.99,
                              grad_clip=1.0, dropout=0.0).items():
        p.add_argument(f"--{name}", type=float, default=default)
    return p.parse_args()


class Block(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.heads, width = o.n_head, o.n_embd
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (z.view(b, t, self.heads, c // self.heads).transpose(1, 2)
                   for z in self.qkv(self.norm1(x)).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, o, vocabulary):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, o.n_embd), nn.Embedding(o.block_size, o.n_embd)
        self.blocks = nn.ModuleList(Block(o) for _ in range(o.n_layer))
        self.norm = nn.LayerNorm(o.n_embd)
        for m in self.modules():
            if isinstance(m, (nn.Linear, nn.Embedding)):
                nn.init.normal_(m.weight, std=0.02)
                if getattr(m, "bias", None) is not None:
                    nn.init.zeros_(m.bias)
        for block in self.blocks:
            for m in (block.out, block.down):
                nn.init.normal_(m.weight, std=0.02 / math.sqrt(2 * o.n_layer))

    def forward(self, x, y):
        h = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        logits = F.linear(self.norm(h), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), y.view(-1))


def learning_rate(o, it):
    if it < o.warmup_iters:
        return o.learning_rate * (it + 1) / (o.warmup_iters + 1)
    if it > o.lr_decay_iters:
        return o.min_lr
    ratio = (it - o.warmup_iters) / (o.lr_decay_iters - o.warmup_iters)
    return o.min_lr + 0.5 * (1 + math.cos(math.pi * ratio)) * (o.learning_rate - o.min_lr)


def train(rank, o, port):
    torch.set_num_threads(max(1, o.threads // o.devices))
    if o.devices > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(o.devices))
        dist.init_process_group("gloo")
    text = open(o.data, encoding="utf-8").read()
    alphabet = {c: i for i, c in enumerate(sorted(set(text)))}
    data = torch.tensor([alphabet[c] for c in text])
    split = int(0.9 * len(data))
    parts = {"train": data[:split], "val": data[split:]}
    generator = torch.Generator().manual_seed(o.seed + rank)

    def batch(part):
        d = parts[part]
        at = torch.randint(len(d) - o.block_size, (o.batch_size,), generator=generator)
        return (torch.stack([d[i:i + o.block_size] for i in at]),
                torch.stack([d[i + 1:i + 1 + o.block_size] for i in at]))

    torch.manual_seed(o.seed)
    raw = model = GPT(o, len(alphabet))
    if o.compile:
        model = torch.compile(model)
    if o.devices > 1:
        model = nn.parallel.DistributedDataParallel(model)
    groups = [{"params": [p for p in raw.parameters() if p.dim() >= 2], "weight_decay": o.weight_decay},
              {"params": [p for p in raw.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=o.learning_rate, betas=(o.beta1, o.beta2), fused=True)

    @torch.no_grad()
    def validate():
        raw.eval()
        loss = statistics.fmean(raw(*batch("val")).item() for _ in range(o.eval_iters))
        raw.train()
        return loss

    steps, trained = [], 0.0
    for it in range(o.max_iters + 1):
        if it % o.eval_interval == 0 and rank == 0:
            print(f"iter {it}: validation loss {validate():.4f}, {trained:.1f} s of training", flush=True)
        if it == o.max_iters:
            break
        start = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(o, it)
        loss = model(*batch("train"))
        loss.backward()
        nn.utils.clip_grad_norm_(raw.parameters(), o.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps.append(time.perf_counter() - start)
        trained += steps[-1]
        if rank == 0 and it % o.log_interval == 0:
            print(f"iter {it}: loss {loss.item():.4f}, {steps[-1] * 1e3:.1f} ms", flush=True)
    if rank == 0:
        o.eval_iters = max(o.eval_iters, 100)
        print(json.dumps({"torch": torch.__version__, "devices": o.devices, "validation_loss": round(validate(), 4),
                          "training_s": round(trained, 2), "median_step_ms": round(statistics.median(steps) * 1e3, 3),
                          "tokens_per_s": round(o.devices * o.batch_size * o.block_size / statistics.median(steps))}))
    if o.devices > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    options = arguments()
    if options.devices == 1:
        train(0, options, 0)
    else:
        import socket
        with socket.socket() as s:  # a free port
            s.bind(("127.0.0.1", 0))
            free = s.getsockname()[1]
        mp.spawn(train, (options, free), nprocs=options.devices)
