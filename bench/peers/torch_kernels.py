"""Times PyTorch's fused CUDA kernels on the work of bench/kernels/cuda_list_bench.cc, with the same byte counts.

    python torch_kernels.py [--elements 67108864] [--repeat 50]

Any Python with torch and a CUDA device; without one it says so and ends with 0. Prints one line an operation: median
microseconds between two events, GB/s of the bytes that the arithmetic must read and write, and these in parts of the
rate of a copy from device to device.
"""

import argparse
import statistics

import torch


def median_us(work, repeat):
    for _ in range(3):
        work()
    times = []
    for _ in range(repeat):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) * 1e3)
    return statistics.median(times)


def works(n):
    """(name, bytes, callable), the copy first."""
    def zeros(dtype, count=n):
        return torch.zeros(count, dtype=dtype, device="cuda")

    source, target = zeros(torch.float32), zeros(torch.float32)
    yield "copy", 8 * n, lambda: target.copy_(source)
    for to, start in ((torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float32, torch.bfloat16),
                      (torch.float32, torch.float16), (torch.bfloat16, torch.float16), (torch.float32, torch.float64)):
        a, b = zeros(start), zeros(to)
        name = f"cast {start} to {to}".replace("torch.", "")
        yield name, n * (a.element_size() + b.element_size()), lambda: b.copy_(a)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        name = str(dtype).replace("torch.", "")
        gradient = zeros(dtype)
        size = n * gradient.element_size()
        yield f"scale {name}", 2 * size, lambda: torch._foreach_mul_([gradient], 0.5)
        found, inverse = zeros(torch.float32, 1), torch.full((1,), 1 / 65536, device="cuda")
        yield (f"GradScaler unscale {name}", 2 * size,
               lambda: torch._amp_foreach_non_finite_check_and_unscale_([gradient], found, inverse))
        yield f"norm {name}", size, lambda: torch._foreach_norm([gradient], 2)
    for tensors in (1, 128):
        parameters = [torch.nn.Parameter(zeros(torch.float32, n // tensors)) for _ in range(tensors)]
        for p in parameters:
            p.grad = torch.zeros_like(p)
        optimizer = torch.optim.AdamW(parameters, fused=True)
        yield f"AdamW fused, {tensors} tensors", 28 * n, optimizer.step
        yield (f"clip_grad_norm_, {tensors} tensors", 12 * n,
               lambda: torch.nn.utils.clip_grad_norm_(parameters, 1e-3, foreach=True))
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, fused=True)
    yield "SGD fused with momentum, 128 tensors", 20 * n, optimizer.step


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--elements", type=int, default=64 << 20)
    options.add_argument("--repeat", type=int, default=50)
    o = options.parse_args()
    if not torch.cuda.is_available():
        print("skipped: PyTorch sees no CUDA device")
        return
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, {o.elements} elements")
    copy_rate = None
    for name, size, work in works(o.elements):
        us = median_us(work, o.repeat)
        rate = size / us / 1e3
        copy_rate = copy_rate or rate
        print(f"{name:40} {us:10.1f} us {rate:8.1f} GB/s {rate / copy_rate:6.2f} of a copy", flush=True)


if __name__ == "__main__":
    main()
