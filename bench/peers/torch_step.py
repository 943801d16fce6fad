"""Times PyTorch on the work of `weft step`: training steps of a GPT-2 on random tokens.

    python torch_step.py --precision bf16-mixed --batch_size 16 --block_size 1024 [--no-compile] [--json FILE]

Compiled (torch.compile), with its flash attention, fused AdamW, clipping to norm 1 and, for 16-mixed, its GradScaler;
on a GPU where there is one, else on the CPU. Prints what `weft step` prints; utilisation is held against a measured
matrix product of the same type, as there.
"""

import argparse
import json
import statistics
import time

import torch

from torch_gpt import GPT

TYPES = {"32-true": torch.float32, "64-true": torch.float64, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16,
         "16-true": torch.float16, "bf16-true": torch.bfloat16}


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--precision", choices=TYPES, default="32-true")
    for name, default in dict(batch_size=4, block_size=1024, n_layer=12, n_head=12, n_embd=768, vocab_size=50304,
                              steps=20, warmup=5).items():
        p.add_argument(f"--{name}", type=int, default=default)
    p.add_argument("--no-compile", action="store_true")
    p.add_argument("--tf32", action="store_true", help="f32 products on the tensor cores")
    p.add_argument("--json")
    return p.parse_args()


def drain():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matmul_peak(device, dtype):
    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    times = []
    for i in range(13):
        drain()
        start = time.perf_counter()
        a @ b
        drain()
        if i >= 3:
            times.append(time.perf_counter() - start)
    return 2 * n**3 / statistics.median(times)


def main():
    o = arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype, mixed = TYPES[o.precision], o.precision.endswith("mixed")
    torch.backends.cuda.matmul.allow_tf32 = o.tf32
    torch.manual_seed(1337)
    torch.set_default_device(device)
    peak = matmul_peak(device, dtype)
    model = GPT(o, o.vocab_size)
    if not mixed:
        model.to(dtype)
    parameters = sum(p.numel() for p in model.parameters()) - model.positions.weight.numel()
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
                                  lr=1e-4, betas=(0.9, 0.95), fused=True)
    scaler = torch.amp.GradScaler(device, enabled=o.precision == "16-mixed")
    forward = model if o.no_compile else torch.compile(model)
    x, y = (torch.randint(o.vocab_size, (o.batch_size, o.block_size)) for _ in range(2))
    times = []
    for step in range(o.warmup + o.steps):
        drain()
        start = time.perf_counter()
        with torch.autocast(device, dtype, enabled=mixed):
            loss = forward(x, y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        drain()
        if step >= o.warmup:
            times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    tokens = o.batch_size * o.block_size
    flops = (6 * parameters + 12 * o.n_layer * o.n_embd * o.block_size) * tokens / seconds
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    print(f"PyTorch {torch.__version__}, GPT of {parameters / 1e6:.1f}M parameters, {o.batch_size} x {o.block_size} tokens "
          f"on {name}, {o.precision}{'' if o.no_compile else ', compiled'}")
    print(f"step       {seconds * 1e3:.2f} ms (median of {len(times)}; last loss {loss.item():.4f})")
    print(f"tokens/s   {tokens / seconds:.0f}")
    print(f"utilisation {flops / peak * 100:.1f}% of {peak / 1e12:.2f} TFLOP/s (a measured matrix product)")
    if o.json:
        with open(o.json, "w") as file:
            json.dump(dict(device=name, precision=o.precision, compiled=not o.no_compile, step_ms=seconds * 1e3,
                           tokens_per_s=tokens / seconds, peak_tflops=peak / 1e12, mfu=flops / peak), file, indent=2)


if __name__ == "__main__":
    main()
