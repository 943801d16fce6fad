#include <cstring>

#include "tensor/data/images.h"
#include "tensor/data/mapped_file.h"
#include "tensor/data/text_files.h"
#include "tensor/data/tokens.h"
#include "tests/nn/helpers.h"

namespace weft::nn_test {
namespace {

data::Tokens counting(std::int64_t size, std::int64_t vocab = 1000) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int32_t>(i);
  return data::Tokens(values, vocab);
}

TEST(Tokens, NarrowAndWideOnesReadTheSame) {
  for (const std::int64_t vocab : {65536, 65537}) {
    const auto tokens = counting(100, vocab);
    EXPECT_EQ(tokens[99], 99);
    EXPECT_EQ(tokens.slice(10, 20)[19], 29);
    std::vector<std::int32_t> window(5);
    tokens.slice(50, 50).copy(45, window);
    EXPECT_EQ(window, (std::vector<std::int32_t>{95, 96, 97, 98, 99}));
  }
  expect_error<InvalidArgument>(
      [] {
        data::Tokens(std::vector<std::int32_t>{0, 5}, 5);
      },
      {"5", "0..4"});
  const auto parts = data::split(counting(100), 0.1);
  EXPECT_EQ(parts.train.size(), 90);
  EXPECT_EQ(parts.validation.size(), 10);
  EXPECT_EQ(parts.validation[0], 90);
}

TEST(TokenDataset, WindowsAreConsecutiveAndTargetsOneOn) {
  const data::TokenDataset dataset(counting(40), 8, 1);
  bool first = false, last = false;
  for (int iteration = 0; iteration < 60; ++iteration) {
    const auto batch = dataset.batch(4, iteration);
    const auto inputs = batch.inputs.to_vector<std::int32_t>();
    const auto targets = batch.targets.to_vector<std::int32_t>();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_EQ(inputs[i], inputs[i / 8 * 8] + static_cast<std::int32_t>(i % 8));
      EXPECT_EQ(targets[i], inputs[i] + 1);
      first = first || inputs[i] == 0;
      last = last || targets[i] == 39;
    }
  }
  EXPECT_TRUE(first && last) << "every window can be drawn, the outermost too";
}

TEST(TokenDataset, RanksTogetherSeeWhatOneRankWouldSee) {
  const data::TokenDataset dataset(counting(500), 16, 42);
  const auto whole = dataset.batch(6, 17).inputs.to_vector<std::int32_t>();
  std::vector<std::int32_t> parts;
  for (int rank = 0; rank < 3; ++rank) {
    const auto part = dataset.batch(2, 17, rank).inputs.to_vector<std::int32_t>();
    parts.insert(parts.end(), part.begin(), part.end());
  }
  EXPECT_EQ(parts, whole);
  EXPECT_NE(dataset.batch(6, 18).inputs.to_vector<std::int32_t>(), whole);
  const data::TokenDataset other(counting(500), 16, 43);
  EXPECT_NE(other.batch(6, 17).inputs.to_vector<std::int32_t>(), whole);
}

TEST(TokenDataset, TextShorterThanTheContextIsAnError) {
  EXPECT_NO_THROW(data::TokenDataset(counting(9), 8, 0).batch(2, 0));
  expect_error<InvalidArgument>([] { data::TokenDataset(counting(8), 8, 0, "tiny.txt"); },
                                {"tiny.txt", "8 tokens", "context of 8", "at least 9"});
  expect_error<InvalidArgument>([] { data::TokenDataset(counting(8), 0, 0); }, {"block_size"});
}

TEST(TokenFile, RoundTripAndHeader) {
  const TempDir dir;
  const auto path = dir / "tokens.bin";
  data::write_token_file(path, std::vector<std::uint16_t>{1, 50256, 65535});
  const auto bytes = read_file(path);
  ASSERT_EQ(bytes.size(), 1024u + 6);
  EXPECT_EQ(bytes.substr(0, 12),
            std::string("\x88\xd8\x34\x01\x01\x00\x00\x00\x03\x00\x00\x00", 12));
  const auto tokens = data::open_token_file(path);
  EXPECT_EQ(tokens.size(), 3);
  EXPECT_EQ(tokens[1], 50256);
  EXPECT_EQ(tokens[2], 65535);
}

TEST(TokenFile, DamageIsNamed) {
  const TempDir dir;
  const auto path = dir / "tokens.bin";
  data::write_token_file(path, std::vector<std::uint16_t>{1, 2, 3, 4});
  const auto good = read_file(path);
  const auto refuses = [&](std::string bytes, std::initializer_list<std::string> parts) {
    write_file(path, bytes);
    expect_error<Corrupt>([&] { data::open_token_file(path); }, parts);
    expect_error<Corrupt>([&] { data::open_token_file(path); }, {path.string()});
  };
  refuses("", {"0 bytes"});
  refuses(good.substr(0, 1023), {"1023 bytes"});
  refuses(good.substr(0, good.size() - 1), {"4 tokens", "7 bytes", "expected 8"});
  refuses(good + "xx", {"10 bytes"});
  refuses("x" + good.substr(1), {"magic 20240520"});
  auto version = good;
  version[4] = 7;
  refuses(version, {"version 1", "found 7"});
  auto negative = good;
  negative[11] = static_cast<char>(0x80);
  refuses(negative, {"tokens"});
  expect_error<IoError>([&] { data::open_token_file(dir / "none.bin"); },
                        {"none.bin", "No such file"});
  expect_error<IoError>([&] { data::open_token_file(dir.path()); }, {"a directory"});
  expect_error<IoError>([&] { data::open_token_file("/dev/zero"); }, {"/dev/zero", "device"});
}

TEST(TextFiles, ATreeIsReadInOrderWithoutWhatIsNoText) {
  const TempDir dir;
  write_file(dir / "b.md", "second");
  write_file(dir / "a/z.cc", "first\n");
  write_file(dir / "c/README", "third\n");
  write_file(dir / "binary.txt", std::string("a\0b", 3));
  write_file(dir / "latin.txt", "caf\xe9");
  write_file(dir / "empty.txt", "");
  write_file(dir / "picture.png", "no text");
  write_file(dir / ".git/config.txt", "hidden");
  write_file(dir / ".hidden.txt", "hidden");
  write_file(dir / "build/made.txt", "made");
  write_file(dir / "build-release/made.txt", "made");
  write_file(dir / "other/CMakeCache.txt", "made");
  write_file(dir / "large.txt", std::string(2000, 'x'));
  fs::create_symlink(dir / "b.md", dir / "link.md");
  fs::create_directory_symlink(dir.path(), dir / "loop");
  const data::TextOptions options{.file_bytes_max = 1000};
  EXPECT_EQ(data::read_text(dir.path(), options), "first\nsecond\nthird\n");
  expect_error<InvalidArgument>(
      [&] { data::read_text(dir.path(), {.file_bytes_max = 1000, .total_bytes_max = 8}); },
      {dir.path().string(), "more than"});
}

TEST(TextFiles, ErrorsNameThePath) {
  const TempDir dir;
  write_file(dir / "empty.txt", "");
  write_file(dir / "file.txt", "caf\xe9");  // one file is taken as it is
  EXPECT_EQ(data::read_text(dir / "file.txt"), "caf\xe9");
  expect_error<InvalidArgument>([&] { data::read_text(dir / "empty.txt"); },
                                {"empty.txt", "the file is empty"});
  expect_error<IoError>([&] { data::read_text(dir / "none.txt"); }, {"none.txt", "No such file"});
  fs::create_directory(dir / "nothing");
  expect_error<InvalidArgument>([&] { data::read_text(dir / "nothing"); }, {"nothing", "no text"});
  expect_error<InvalidArgument>([&] { data::read_text(dir / "file.txt", {.total_bytes_max = 2}); },
                                {"file.txt"});
}

std::string idx(const std::vector<std::uint32_t>& dims, std::size_t bytes) {
  std::string text("\0\0\x08", 3);
  text.push_back(static_cast<char>(dims.size()));
  for (const auto dim : dims) {
    for (int shift = 24; shift >= 0; shift -= 8) text.push_back(static_cast<char>(dim >> shift));
  }
  for (std::size_t i = 0; i < bytes; ++i) text.push_back(static_cast<char>(i % 10));
  return text;
}

TEST(Idx, ImagesAndLabelsAsMnistHasThem) {
  const TempDir dir;
  write_file(dir / "images", idx({3, 2, 4}, 24));
  write_file(dir / "labels", idx({3}, 3));
  const auto set = data::read_idx_images(dir / "images", dir / "labels");
  EXPECT_EQ(set.images.shape(), (Shape{3, 1, 2, 4}));
  EXPECT_EQ(set.labels.to_vector<std::int64_t>(), (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_EQ(set.classes, 3);
  EXPECT_FLOAT_EQ(set.images.to_vector<float>()[9], 9.0f / 255);
}

TEST(Idx, DamageIsNamed) {
  const TempDir dir;
  const auto path = dir / "file";
  const auto refuses = [&](const std::string& bytes, std::initializer_list<std::string> parts) {
    write_file(path, bytes);
    expect_error<Corrupt>([&] { data::read_idx(path); }, parts);
    expect_error<Corrupt>([&] { data::read_idx(path); }, {path.string()});
  };
  refuses("", {"0 bytes"});
  refuses(std::string("\x1f\x8b\x08\x00", 4), {"gzip", "gunzip"});
  refuses(std::string("\0\0\x0d\x01\0\0\0\1", 8), {"0x00000801", "0x00000d01"});
  refuses(std::string("\0\0\x08\x03\0\0", 6), {"header", "6 bytes of 16"});
  refuses(idx({3, 2, 4}, 23), {"(3, 2, 4)", "24 bytes", "found 23"});
  refuses(idx({3, 2, 4}, 25), {"found 25"});
  refuses(idx({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 10), {"found 10"});
  refuses(idx({0}, 0), {"found 0"});
  write_file(dir / "images", idx({3, 2, 4}, 24));
  write_file(dir / "labels", idx({4}, 4));
  expect_error<Mismatch>([&] { data::read_idx_images(dir / "images", dir / "labels"); },
                         {"3 images", "4 labels", "labels holds"});
  expect_error<Corrupt>([&] { data::read_idx_images(dir / "labels", dir / "labels"); },
                        {"expected images"});
  expect_error<Corrupt>([&] { data::read_idx_images(dir / "images", dir / "images"); },
                        {"expected labels"});
}

TEST(Synthetic, TheSameSeedGivesTheSameSet) {
  const auto one = data::synthetic_images({.count = 50, .side = 8, .classes = 4, .seed = 3});
  const auto two = data::synthetic_images({.count = 50, .side = 8, .classes = 4, .seed = 3});
  const auto three = data::synthetic_images({.count = 50, .side = 8, .classes = 4, .seed = 4});
  EXPECT_EQ(one.images.to_vector<float>(), two.images.to_vector<float>());
  EXPECT_NE(one.images.to_vector<float>(), three.images.to_vector<float>());
  for (const auto pixel : one.images.to_vector<float>()) EXPECT_TRUE(pixel >= 0 && pixel <= 1);
  for (const auto label : one.labels.to_vector<std::int64_t>())
    EXPECT_TRUE(label >= 0 && label < 4);
  expect_error<InvalidArgument>([] { data::synthetic_images({.count = 0}); }, {"count"});
}

}  // namespace
}  // namespace weft::nn_test
