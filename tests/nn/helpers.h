// What the tests of this room share.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "kernels/base/error.h"
#include "tensor/checkpoint/safetensors.h"
#include "tests/support/scratch.h"

namespace weft::nn_test {

namespace fs = std::filesystem;

using TempDir = tests::ScratchDirectory;

inline fs::path fixture(const std::string& name) {
  return fs::path(WEFT_SOURCE_DIR) / "tests" / "fixtures" / name;
}

inline void write_file(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::size_t entries_in(const fs::path& directory) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

// The largest |a - b|, relative to the largest |b|.
inline double distance(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return HUGE_VAL;
  const auto x = a.detach().to(DType::f64).contiguous().to_vector<double>();
  const auto y = b.detach().to(DType::f64).contiguous().to_vector<double>();
  double worst = 0.0, largest = 1e-30;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double difference = std::abs(x[i] - y[i]);
    if (!(difference <= worst)) worst = difference;  // NaN counts
    largest = std::max(largest, std::abs(y[i]));
  }
  return worst / largest;
}

// `statement` throws E, whose message has all of `parts`.
template <class E, class Statement>
void expect_error(Statement statement, std::initializer_list<std::string> parts) {
  try {
    statement();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const E& error) {
    for (const auto& part : parts) EXPECT_THAT(error.what(), testing::HasSubstr(part));
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another error was thrown: " << error.what();
  }
}

}  // namespace weft::nn_test
