#!/usr/bin/env bash
# Packs the cuda build's gpu tests and what benches there are, with the shared libraries that they need (not the C
# library's, not CUDA's: cuBLASLt is looked for in the CUDA installation), into out/gpu-bundle, to run on a machine that
# has an NVIDIA driver and the CUDA 13 libraries and nothing of ours:
#   OUT=results out/gpu-bundle/gpu-check
# usage: cmake/gpu_bundle.sh [BUILD_DIR]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${1:-build/cuda}/bin
bundle=out/gpu-bundle
limit_mib=60
required=(gpu_test weft)
# Packed where they are built: benches, what they start, and the programs of the gpu tests (gpu_*_main).
optional=(bench_kernels weft-bench weft-step train_gpt)

for program in "${required[@]}"; do
  [[ -x $bin/$program ]] || { echo "gpu-bundle: $bin/$program is missing; run ./dev build cuda" >&2; exit 1; }
done
rm -rf "$bundle"
mkdir -p "$bundle/bin" "$bundle/lib"
cp "${required[@]/#/$bin/}" "$bundle/bin/"
for path in "${optional[@]/#/$bin/}" "$bin"/gpu_*_main; do
  if [[ -x $path ]]; then cp "$path" "$bundle/bin/"; fi
done
strip "$bundle/bin/"*
for program in "$bundle"/bin/*; do
  ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// {print $3}'
done | sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread|libcuda[a-z]*|libcublas[A-Za-z]*|libnvidia[-a-z]*)\.so' |
  xargs -r cp -L -t "$bundle/lib"
cp cmake/gpu_check.sh "$bundle/gpu-check"
chmod +x "$bundle/gpu-check"
{
  git describe --always --dirty 2>/dev/null || echo unknown
} >"$bundle/version"
size=$(du -sm "$bundle" | cut -f1)
((size < limit_mib)) || { echo "gpu-bundle: $size MiB, the limit is $limit_mib" >&2; exit 1; }
echo "gpu-bundle: $bundle, $size MiB: $(cd "$bundle/bin" && echo *)"
