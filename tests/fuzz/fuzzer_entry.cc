// libFuzzer's way in: WEFT_FUZZ_TARGET names the parser (tests/fuzz/targets.h).
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/base/error.h"
#include "tests/fuzz/targets.h"

namespace {

const weft::fuzz::Target& chosen() {
  static const weft::fuzz::Target target = [] {
    const char* name = std::getenv("WEFT_FUZZ_TARGET");
    for (const auto targets :
         {weft::fuzz::wire_targets(), weft::fuzz::store_targets(), weft::fuzz::file_targets()}) {
      for (const auto& one : targets) {
        if (name != nullptr && std::strcmp(one.name, name) == 0) return one;
        if (name == nullptr) std::fprintf(stderr, "  %s: %s\n", one.name, one.parser);
      }
    }
    std::fprintf(stderr, "set WEFT_FUZZ_TARGET to one of the targets of tests/fuzz\n");
    std::exit(2);
  }();
  return target;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    chosen().run({data, size});
  } catch (const weft::Error&) {
    return 0;  // refused, as it should be; anything else that is thrown ends the fuzzer
  }
  return 0;
}
