// Files that users name: what is none is refused, and never waited for.
#include "kernels/base/regular_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "kernels/base/system_error.h"
#include "tests/support/scratch.h"

namespace weft {
namespace {

using testing::HasSubstr;

class RegularFile : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return directory_ / name; }
  static std::string refusal(const std::string& path) {
    const auto text_of = [](auto&& body) -> std::string {
      try {
        body();
      } catch (const IoError& error) {
        return error.what();
      }
      return "accepted";
    };
    const std::string opened = text_of([&] { open_regular_file(path, "the file"); });
    EXPECT_EQ(text_of([&] { expect_regular_file(path, "the file"); }), opened);
    EXPECT_EQ(text_of([&] { read_regular_file(path, "the file", 10); }), opened);
    return opened;
  }

 private:
  tests::ScratchDirectory directory_;
};

TEST_F(RegularFile, IsReadWhole) {
  const std::string text(200'000, 'x');
  std::ofstream(path("a")) << text;
  EXPECT_EQ(read_regular_file(path("a"), "a", text.size()), text);
  std::ofstream(path("empty"));
  EXPECT_EQ(read_regular_file(path("empty"), "it", 0), "");
  ASSERT_EQ(::symlink(path("a").c_str(), path("link").c_str()), 0);
  EXPECT_EQ(read_regular_file(path("link"), "a", 1 << 20), text);
  EXPECT_THROW(read_regular_file(path("a"), "a", text.size() - 1), InvalidArgument);
}

TEST_F(RegularFile, WhatIsNoneIsNamedAtOnce) {
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(refusal(path("pipe")), "the file: expected a regular file, found a pipe");
  EXPECT_EQ(refusal("/dev/zero"), "the file: expected a regular file, found a device");
  EXPECT_EQ(refusal("/"), "the file: expected a regular file, found a directory");
  EXPECT_EQ(refusal(path("none")), "the file: cannot read it: No such file or directory");
}

TEST(SystemErrors, SayWhatHelps) {
  EXPECT_EQ(text_of_system_error(EMFILE), "Too many open files (raise ulimit -n)");
  EXPECT_EQ(text_of_system_error(ENOENT), "No such file or directory");
  try {
    with_typed_errors("rank 1: split", [] {
      throw std::system_error(EMFILE, std::system_category(), "eventfd_select_interrupter");
    });
    FAIL();
  } catch (const IoError& error) {
    EXPECT_STREQ(error.what(),
                 "rank 1: split: eventfd_select_interrupter: Too many open files (raise ulimit "
                 "-n)");
  }
  EXPECT_EQ(with_typed_errors("here", [] { return 7; }), 7);
}

}  // namespace
}  // namespace weft
