// libFuzzer's way in: WEFT_FUZZ_TARGET names the parser (tests/fuzz/targets.h). The directory for
// what it finds, the last argument, gets the seeds to begin with.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "kernels/base/error.h"
#include "tests/fuzz/targets.h"

namespace {

const weft::fuzz::Target& chosen() {
  static const weft::fuzz::Target target = [] {
    const char* name = std::getenv("WEFT_FUZZ_TARGET");
    for (const auto& one : weft::fuzz::all_targets()) {
      if (name != nullptr && std::strcmp(one.name, name) == 0) return one;
      if (name == nullptr) std::fprintf(stderr, "  %s: %s\n", one.name, one.parser);
    }
    std::fprintf(stderr, "set WEFT_FUZZ_TARGET to one of the targets of tests/fuzz\n");
    std::exit(2);
  }();
  return target;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  const auto seeds = chosen().seeds();
  if (*argc < 2 || !std::filesystem::is_directory((*argv)[*argc - 1])) return 0;
  for (std::size_t k = 0; k < seeds.size(); ++k) {
    const auto path = std::filesystem::path((*argv)[*argc - 1]) / ("seed" + std::to_string(k));
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(seeds[k].data()),
               static_cast<std::streamsize>(seeds[k].size()));
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    chosen().run({data, size});
  } catch (const weft::Error&) {
    return 0;  // refused, as it should be; anything else that is thrown ends the fuzzer
  }
  return 0;
}
