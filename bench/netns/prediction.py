#!/usr/bin/env python3
"""weft simulate's prediction beside weft bench's measurement, on rate-limited links between network namespaces.

  bench/netns/prediction.py [--hosts 2,4,8] [--algorithms ring,tree,halving_doubling] [--bin build/release/bin]
                            [--min 1M --max 64M --factor 8] [--network examples/networks/gigabit_namespaces.json]
  bench/netns/prediction.py --again FILE       only the predictions anew, beside measurements kept by --keep FILE

Prints a table: hosts, algorithm, size, milliseconds measured (median, the better of in place and out of place) and
predicted, and the error, (predicted - measured) / measured. Links are those of bench/netns/hosts.sh: 1 Gbit/s each way.
Needs root, for the namespaces.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def measure(args, hosts, algorithm, scratch):
    result = os.path.join(scratch, f"bench-{hosts}-{algorithm}.json")
    command = [args.harness, "--hosts", str(hosts), "--bin", args.bin, "--", "all_reduce", "-b", args.min,
               "-e", args.max, "-f", str(args.factor), "-n", str(args.iterations), "-w", "1", "-c", "0", "--algorithm", algorithm,
               "--json", result]
    if args.prefix:
        command = args.prefix.split() + command
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(command)}\nended with {ran.returncode}:\n{ran.stdout}")
    with open(result) as file:
        rows = json.load(file)["rows"]
    kinds = ("in_place", "out_of_place")
    return [(row["bytes"], min(row[kind]["time_us"] for kind in kinds if row.get(kind))) for row in rows]


def predict(args, hosts, algorithm, size, scratch):
    result = os.path.join(scratch, "simulate.json")
    subprocess.run([os.path.join(args.bin, "weft"), "simulate", "all_reduce", "--ranks", str(hosts), "--algorithm",
                    algorithm, "--bytes", str(size), "--network", args.network, "--json", result],
                   check=True, stdout=subprocess.DEVNULL)
    with open(result) as file:
        return json.load(file)["time_us"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", default="2,4,8")
    parser.add_argument("--algorithms", default="ring,tree,halving_doubling")
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/release/bin"))
    parser.add_argument("--min", default="1M")
    parser.add_argument("--max", default="64M")
    parser.add_argument("--factor", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--network", default=os.path.join(ROOT, "examples/networks/gigabit_namespaces.json"))
    parser.add_argument("--harness", default=os.path.join(HERE, "all_reduce.sh"))
    parser.add_argument("--prefix", default="", help="put before the measuring command")
    parser.add_argument("--keep", help="write what was measured to this file")
    parser.add_argument("--again", help="read it from this file instead")
    args = parser.parse_args()
    args.bin = os.path.abspath(args.bin)

    measured = []
    if args.again:
        with open(args.again) as file:
            measured = json.load(file)
    with tempfile.TemporaryDirectory() as scratch:
        if not args.again:
            for hosts in map(int, args.hosts.split(",")):
                for algorithm in args.algorithms.split(","):
                    for size, time_us in measure(args, hosts, algorithm, scratch):
                        measured.append([hosts, algorithm, size, time_us])
                    if args.keep:
                        with open(args.keep, "w") as file:
                            json.dump(measured, file)
        print("| hosts | algorithm | bytes | measured ms | predicted ms | error |")
        print("|---|---|---|---|---|---|")
        worst = 0.0
        for hosts, algorithm, size, time_us in measured:
            predicted = predict(args, hosts, algorithm, size, scratch)
            error = predicted / time_us - 1
            worst = max(worst, abs(error))
            print(f"| {hosts} | {algorithm} | {size} | {time_us / 1e3:.2f} | {predicted / 1e3:.2f} | {error * 100:+.1f} % |")
        print(f"\nlargest error {worst * 100:.1f} %")


if __name__ == "__main__":
    main()
