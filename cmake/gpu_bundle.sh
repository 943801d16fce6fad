#!/usr/bin/env bash
# Packs the cuda build's gpu tests, with the shared libraries they need (not CUDA's, not the C library's), into
# out/gpu-bundle, to run on a machine that has an NVIDIA driver and nothing of ours:
#   OUT=results out/gpu-bundle/gpu-check
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=build/cuda/bin
bundle=out/gpu-bundle
limit_mib=60

[[ -x $bin/gpu_test ]] || { echo "gpu-bundle: $bin/gpu_test is missing; run ./dev build cuda" >&2; exit 1; }
rm -rf "$bundle"
mkdir -p "$bundle/bin" "$bundle/lib"
cp "$bin/gpu_test" "$bundle/bin/"
strip "$bundle/bin/"*
for program in "$bundle"/bin/*; do
  ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// {print $3}'
done | sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread|libcuda[a-z]*|libcublas[A-Za-z]*)\.so' |
  xargs -r cp -t "$bundle/lib"

cat > "$bundle/gpu-check" <<'EOF'
#!/usr/bin/env bash
# Runs every gpu test, then compute-sanitizer on them where it is installed; JSON and logs go to $OUT.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${OUT:-.}
mkdir -p "$out"
export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
failed=0
"$here/bin/gpu_test" --gtest_output=json:"$out/gpu_test.json" 2>&1 | tee "$out/gpu_test.log"
[[ ${PIPESTATUS[0]} == 0 ]] || failed=1
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$here/bin/gpu_test" >"$out/$tool.log" 2>&1 ||
      { echo "gpu-check: $tool found something, see $out/$tool.log"; failed=1; }
  done
else
  echo "gpu-check: no compute-sanitizer here, its runs are left out"
fi
exit $failed
EOF
chmod +x "$bundle/gpu-check"
size=$(du -sm "$bundle" | cut -f1)
((size < limit_mib)) || { echo "gpu-bundle: $size MiB, the limit is $limit_mib" >&2; exit 1; }
echo "gpu-bundle: $bundle, $size MiB"
