#include "tests/emulator/failure.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace weft::emulated {
namespace {

struct Last {
  std::mutex mutex;
  std::string text;
};
Last& last() {
  static Last* const kept = new Last;  // asked for until the process ends
  return *kept;
}

}  // namespace

void remember_failure(const std::string& text) {
  std::fprintf(stderr, "emulated CUDA: %s\n", text.c_str());
  const std::lock_guard lock(last().mutex);
  last().text = text;
}

std::string last_failure() {
  const std::lock_guard lock(last().mutex);
  return last().text;
}

long long setting(const char* name, long long otherwise, long long least) {
  const char* const text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const long long value = std::strtoll(text, &end, 10);
  if (*end == '\0' && value >= least) return value;
  std::fprintf(stderr, "%s=%s: expected a whole number of at least %lld\n", name, text, least);
  std::_Exit(2);
}

bool latest_first() {
  static const bool yes = setting("WEFT_EMULATED_ORDER", 0, 0) == 1;
  return yes;
}

}  // namespace weft::emulated
