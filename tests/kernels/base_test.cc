// dtypes, error types and assertions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/base/dtype.h"
#include "kernels/base/error.h"
#include "kernels/base/units.h"
#include "kernels/reduce.h"

namespace weft {
namespace {

TEST(DTypeTest, NamesParseBack) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(parse_dtype(name_of(dtype)), dtype) << name_of(dtype);
  }
}

TEST(DTypeTest, UsualAliasesAreKnown) {
  EXPECT_EQ(parse_dtype("float"), DType::f32);
  EXPECT_EQ(parse_dtype("float32"), DType::f32);
  EXPECT_EQ(parse_dtype("half"), DType::f16);
  EXPECT_EQ(parse_dtype("float16"), DType::f16);
  EXPECT_EQ(parse_dtype("bfloat16"), DType::bf16);
  EXPECT_EQ(parse_dtype("double"), DType::f64);
  EXPECT_EQ(parse_dtype("int64"), DType::i64);
  EXPECT_EQ(parse_dtype("int32"), DType::i32);
  EXPECT_EQ(parse_dtype("uint8"), DType::u8);
  for (const char* wrong : {"", "f8", "F32", "float 32", "f32 "}) {
    EXPECT_EQ(parse_dtype(wrong), std::nullopt) << wrong;
  }
}

TEST(DTypeTest, SizesAndDispatchAgree) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    dispatch(dtype, [&]<class T>() {
      EXPECT_EQ(dtype_of<T>, dtype);
      EXPECT_EQ(size_of(dtype).size(), sizeof(T));
      EXPECT_EQ(bytes_of(Elems(3), dtype), Bytes(3 * static_cast<std::int64_t>(sizeof(T))));
    });
  }
}

TEST(ReduceOpTest, NamesParseBack) {
  for (int i = 0; i < kReduceOpCount; ++i) {
    const auto op = static_cast<ReduceOp>(i);
    EXPECT_EQ(parse_reduce_op(name_of(op)), op);
  }
  EXPECT_EQ(parse_reduce_op("mean"), std::nullopt);
}

TEST(ErrorTest, ThrowErrorGivesTheTypeOfItsCode) {
  EXPECT_THROW(throw_error(ErrorCode::peer_lost, "x"), PeerLost);
  EXPECT_THROW(throw_error(ErrorCode::timeout, "x"), Timeout);
  EXPECT_THROW(throw_error(ErrorCode::mismatch, "x"), Mismatch);
  EXPECT_THROW(throw_error(ErrorCode::unauthorized, "x"), Unauthorized);
  EXPECT_THROW(throw_error(ErrorCode::corrupt, "x"), Corrupt);
  EXPECT_THROW(throw_error(ErrorCode::aborted, "x"), Aborted);
  EXPECT_THROW(throw_error(ErrorCode::invalid_argument, "x"), InvalidArgument);
  EXPECT_THROW(throw_error(ErrorCode::unsupported, "x"), Unsupported);
  EXPECT_THROW(throw_error(ErrorCode::io, "x"), IoError);
  EXPECT_THROW(throw_error(static_cast<ErrorCode>(200), "x"), Error);
}

TEST(ErrorTest, FailFormatsAndKeepsTheCode) {
  try {
    fail<Timeout>("rank {} waited {} ms", 3, 250);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::timeout);
    EXPECT_EQ(name_of(error.code()), "timeout");
    EXPECT_STREQ(error.what(), "rank 3 waited 250 ms");
  }
}

TEST(CheckDeathTest, AssertionsNameConditionAndPlace) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(WEFT_ASSERT(1 + 1 == 3, "arithmetic"),
               "base_test.cc:[0-9]+: 1 \\+ 1 == 3 \\(arithmetic\\)");
}

}  // namespace
}  // namespace weft
