// What a program says where cuBLASLt is missing: it starts, and the error names the remedy. In
// processes of their own, because a library that was found stays.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "kernels/cuda/gemm.h"

namespace weft::kernels {
namespace {

[[noreturn]] void say_reason(const char* file) {
  setenv("WEFT_CUBLASLT", file, 1);
  std::fputs(cuda::reason_for_no_gemm().c_str(), stderr);
  std::exit(0);
}

class GemmLibraryTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(GemmLibraryTest, AFileThatIsNotThereIsNamedWithTheRemedy) {
  EXPECT_EXIT(say_reason("/nowhere/libcublasLt.so"), testing::ExitedWithCode(0),
              "/nowhere/libcublasLt.so.*LD_LIBRARY_PATH|no CUDA backend");
}

TEST_F(GemmLibraryTest, AnotherLibraryIsNotTakenForIt) {
  EXPECT_EXIT(say_reason("libm.so.6"), testing::ExitedWithCode(0),
              "no cublasLt.*WEFT_CUBLASLT|no CUDA backend");
}

}  // namespace
}  // namespace weft::kernels
