// Thousands of damaged inputs for every parser, the same in every run. WEFT_FUZZ_INPUTS sets how
// many each gets (4000).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "kernels/base/error.h"
#include "tests/fuzz/targets.h"

namespace weft::fuzz {

std::string finding_of(const Target& target, std::span<const std::uint8_t> input) {
  try {
    target.run(input);
  } catch (const Error&) {
    return {};  // refused, as it should be
  } catch (const std::exception& error) {
    return std::string("threw what is no error of ours: ") + error.what();
  } catch (...) {
    return "threw something";
  }
  return {};
}

namespace {

// libFuzzer's usual mutations, few of them, from a generator that is the same everywhere.
class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  Bytes next(const std::vector<Bytes>& seeds) {
    Bytes bytes = seeds[below(seeds.size())];
    for (std::size_t times = 1 + below(4); times > 0; --times) mutate(bytes, seeds);
    return bytes;
  }

 private:
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  std::uint8_t any() { return static_cast<std::uint8_t>(random_()); }
  // Early bytes decide more than late ones.
  std::size_t place(const Bytes& bytes) {
    const std::size_t reach =
        below(3) == 0 ? bytes.size() : std::min<std::size_t>(bytes.size(), 80);
    return below(reach);
  }

  void mutate(Bytes& bytes, const std::vector<Bytes>& seeds) {
    constexpr std::uint8_t kTelling[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{', '['};
    if (bytes.empty()) return bytes.push_back(any());
    switch (below(8)) {
      case 0:
        bytes[place(bytes)] ^= static_cast<std::uint8_t>(1u << below(8));
        return;
      case 1:
        bytes[place(bytes)] = any();
        return;
      case 2:
        bytes[place(bytes)] = kTelling[below(std::size(kTelling))];
        return;
      case 3:
        bytes.resize(below(bytes.size() + 1));
        return;
      case 4:
        bytes.insert(bytes.begin() + at(place(bytes)), 1 + below(8), any());
        return;
      case 5: {
        const std::size_t from = place(bytes);
        const std::size_t count = std::min(bytes.size() - from, 1 + below(16));
        bytes.erase(bytes.begin() + at(from), bytes.begin() + at(from + count));
        return;
      }
      case 6: {  // a length or offset that is far off
        const std::size_t from = place(bytes);
        for (std::size_t k = from; k < std::min(bytes.size(), from + 4); ++k) bytes[k] = 0xff;
        return;
      }
      default: {
        const Bytes& other = seeds[below(seeds.size())];
        const std::size_t from = below(other.size());
        bytes.resize(below(bytes.size() + 1));
        bytes.insert(bytes.end(), other.begin() + at(from), other.end());
      }
    }
  }
  static std::ptrdiff_t at(std::size_t index) { return static_cast<std::ptrdiff_t>(index); }

  std::mt19937 random_;
};

std::string hex_of(const Bytes& bytes) {
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(bytes.size(), 200); ++i) {
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text + fmt::format(" ({} bytes)", bytes.size());
}

class Fuzz : public ::testing::TestWithParam<Target> {};

TEST_P(Fuzz, DamagedInputIsRefusedAndNothingElse) {
  const Target& target = GetParam();
  const char* wished = std::getenv("WEFT_FUZZ_INPUTS");
  const int inputs = wished == nullptr ? 4000 : std::atoi(wished);
  const std::vector<Bytes> seeds = target.seeds();
  for (const Bytes& seed : seeds) ASSERT_EQ(finding_of(target, seed), "") << hex_of(seed);
  Mutator mutator(1);
  for (int i = 0; i < inputs; ++i) {
    const Bytes input = mutator.next(seeds);
    ASSERT_EQ(finding_of(target, input), "")
        << target.parser << ", input " << i << ": " << hex_of(input);
  }
}

INSTANTIATE_TEST_SUITE_P(Parsers, Fuzz, ::testing::ValuesIn(all_targets()),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace weft::fuzz
