#!/usr/bin/env bash
# Runs what the bundle around it holds on this machine's GPUs: every gpu test, compute-sanitizer on the small ones, then
# the benches. Logs, each program's own JSON, and summary.json (device, driver, and each run's exit code and seconds) go
# to $OUT (here unless set).
# Exit: 0 all ran and passed; 1 something failed; 2 a wish that is none; 3 there is no usable GPU (the tests that need
# none ran).
#   GPU_CHECK_ONLY=tests|sanitizer|bench   that part alone
#   GPU_CHECK_LIMIT=SECONDS                for each program, 600 unless set
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${OUT:-.}
only=${GPU_CHECK_ONLY:-all}
limit=${GPU_CHECK_LIMIT:-600}
case $only in
  all | tests | sanitizer | bench) ;;
  *) echo "gpu-check: GPU_CHECK_ONLY=$only: expected all, tests, sanitizer or bench" >&2; exit 2 ;;
esac
if ! [[ $limit =~ ^[1-9][0-9]{0,6}$ ]]; then
  echo "gpu-check: GPU_CHECK_LIMIT=$limit: expected seconds, a whole number from 1 on" >&2
  exit 2
fi
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)

# cuBLASLt, where the CUDA installation is not in the linker's cache.
cuda_lib=''
for folder in "${CUDA_HOME:-}/lib64" /usr/local/cuda/lib64 /usr/local/cuda-13*/lib64 \
  /usr/local/cuda/targets/x86_64-linux/lib /usr/lib/x86_64-linux-gnu; do
  if compgen -G "$folder/libcublasLt.so*" >/dev/null; then cuda_lib=$folder; break; fi
done
export LD_LIBRARY_PATH=$here/lib${cuda_lib:+:$cuda_lib}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

# What weft itself can use: nvidia-smi is not everywhere, and sees devices that CUDA_VISIBLE_DEVICES hides.
info=$("$here/bin/weft" info 2>&1)
device=$(sed -n 's/^  0: \(.*\), compute capability .*/\1/p' <<<"$info" | head -1)
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)
[[ -n $driver ]] || driver=$(sed -n 's/^CUDA devices: .*the driver serves \(.*\))$/CUDA \1/p' <<<"$info" | head -1)
runs=() failed=0

# run NAME COMMAND...: output to $OUT/NAME.log, the result into the summary.
run() {
  local name=$1 begin end rc verdict=passed
  shift
  echo "gpu-check: $name"
  begin=$(date +%s.%N)
  timeout -k 10 "$limit" "$@" >"$out/$name.log" 2>&1 </dev/null
  rc=$?
  end=$(date +%s.%N)
  if ((rc != 0)); then
    failed=1 verdict=failed
    ((rc == 124 || rc == 137)) && verdict="stopped after $limit s"
    echo "gpu-check: $name $verdict ($rc), its last lines:"
    tail -n 15 "$out/$name.log" | sed 's/^/    /'
  fi
  runs+=("$(printf '{"name": "%s", "rc": %d, "seconds": %.3f, "verdict": "%s"}' "$name" "$rc" \
    "$(awk -v a="$begin" -v b="$end" 'BEGIN {print b - a}')" "$verdict")")
}

wants() { [[ $only == all || $only == "$1" ]]; }
has() { [[ -x $here/bin/$1 ]]; }

cd "$out" || exit 1
if wants tests; then
  run gpu_test "$here/bin/gpu_test" --gtest_output=json:"$out/gpu_test.json"
fi

if [[ -n $device ]]; then
  run info "$here/bin/weft" info
  # Sizes and processes that are too slow under the sanitizer are named *Large* or live in IpcTest.
  if wants sanitizer; then
    sanitizer=$(command -v compute-sanitizer || compgen -G "/usr/local/cuda*/bin/compute-sanitizer" | head -1)
    if [[ -n $sanitizer ]]; then
      for tool in memcheck racecheck; do
        run "$tool" "$sanitizer" --tool "$tool" --error-exitcode 9 "$here/bin/gpu_test" \
          --gtest_filter='-*Large*:*IpcTest*:*Process*'
      done
    else
      echo "gpu-check: no compute-sanitizer here, its runs are left out"
      runs+=('{"name": "compute-sanitizer", "rc": null, "seconds": 0, "verdict": "not installed"}')
    fi
  fi
  if wants bench; then
    has bench_kernels && run bench_kernels "$here/bin/bench_kernels" --benchmark_filter=cuda \
      --benchmark_out="$out/bench_kernels.json" --benchmark_out_format=json
    if has weft-bench; then
      for ranks in 2 4 8; do
        for transport in inproc shm; do  # ranks as threads, and as processes
          name=all_reduce_${ranks}_$transport
          reduce=("$here/bin/weft-bench" all_reduce --accelerator cuda --transport "$transport" --devices "$ranks")
          run "$name" "${reduce[@]}" -b 8 -e 256M -f 4 --json "$out/$name.json"
          run "${name}_registered" "${reduce[@]}" --registered -b 1M -e 256M -f 4 --json "$out/${name}_registered.json"
          run "${name}_graph" "${reduce[@]}" -G 20 -b 8 -e 64K -f 8 --json "$out/${name}_graph.json"
        done
      done
    fi
    if has weft-step; then
      step=("$here/bin/weft-step" --accelerator cuda --batch_size 16)
      run gpt2_step "${step[@]}" --precision bf16-mixed --json "$out/gpt2_step.json"
      run gpt2_step_graph "${step[@]}" --precision bf16-mixed --graph --json "$out/gpt2_step_graph.json"
      run gpt2_step_16 "${step[@]}" --precision 16-mixed --graph --json "$out/gpt2_step_16.json"
      run gpt2_step_tf32 "${step[@]}" --precision 32-true --tf32 --json "$out/gpt2_step_tf32.json"
    fi
  fi
fi

{
  printf '{\n  "version": "%s",\n  "device": "%s",\n  "driver": "%s",\n  "host": "%s",\n  "date": "%s",\n  "runs": [\n' \
    "$(cat "$here/version" 2>/dev/null)" "$device" "$driver" "$(uname -n)" "$(date -u +%FT%TZ)"
  for ((i = 0; i < ${#runs[@]}; ++i)); do
    printf '    %s%s\n' "${runs[i]}" "$( ((i + 1 < ${#runs[@]})) && echo ,)"
  done
  printf '  ]\n}\n'
} >"$out/summary.json"
echo "gpu-check: $out/summary.json"
((failed)) && exit 1
if [[ -z $device ]]; then
  echo "gpu-check: no usable GPU ($(sed -n 's/^CUDA devices: //p' <<<"$info" | head -1)): the tests that need one were skipped, benches were not run"
  exit 3
fi
exit 0
