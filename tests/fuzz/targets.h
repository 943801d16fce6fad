// Every parser of bytes that come from elsewhere, as a function from bytes to a verdict. What a
// parser refuses it must refuse with an Error of ours; anything else that is thrown, a crash, a
// hang or a sanitizer's report is a finding.
//
// Two drivers use them: fuzz_test mutates the seeds, the same way in every run, and libFuzzer
// explores on its own (fuzzer_entry.cc, built by the preset fuzz, which needs clang):
//   ./dev build fuzz weft_fuzzer && mkdir -p build/fuzz/found
//   WEFT_FUZZ_TARGET=segments build/fuzz/bin/weft_fuzzer -max_total_time=60 build/fuzz/found
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace weft::fuzz {

using Bytes = std::vector<std::uint8_t>;

struct Target {
  const char* name;
  const char* parser;  // what it covers
  void (*run)(std::span<const std::uint8_t>);
  std::vector<Bytes> (*seeds)();  // sound inputs to begin with
};

std::span<const Target> wire_targets();         // between ranks
std::span<const Target> store_targets();        // the store's protocol, handshake, introductions
std::span<const Target> file_targets();         // safetensors, data, tokenizers, secrets
std::span<const Target> checkpoint_targets();   // manifests and states of runs
std::span<const Target> description_targets();  // JSON files, variables

inline std::vector<Target> all_targets() {
  std::vector<Target> all;
  for (const auto targets : {wire_targets(), store_targets(), file_targets(), checkpoint_targets(),
                             description_targets()}) {
    all.insert(all.end(), targets.begin(), targets.end());
  }
  return all;
}

// Runs one input; gives what was found, or nothing.
std::string finding_of(const Target& target, std::span<const std::uint8_t> input);

}  // namespace weft::fuzz
