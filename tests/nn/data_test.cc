#include <cstring>
#include <set>

#include "tensor/data/images.h"
#include "tensor/data/mapped_file.h"
#include "tensor/data/sampler.h"
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

TEST(TokenFile, FilesOfLlama3SayWhatTheyAre) {
  const TempDir dir;
  std::string bytes(1024, '\0');
  const std::int32_t header[3] = {20240801, 7, 0};
  std::memcpy(bytes.data(), header, sizeof(header));
  write_file(dir / "llama.bin", bytes);
  expect_error<Corrupt>([&] { data::open_token_file(dir / "llama.bin"); },
                        {"llama.bin", "20240520", "20240801", "Llama 3"});
}

std::vector<std::uint16_t> run_of(int first, int count) {
  std::vector<std::uint16_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(static_cast<std::uint16_t>(first + i));
  return tokens;
}

std::vector<std::string> names_of(const std::string& where) {
  std::vector<std::string> names;
  for (const auto& path : data::find_token_files(where)) names.push_back(path.filename().string());
  return names;
}

TEST(TokenFiles, DirectoriesPatternsAndListsAreFound) {
  const TempDir dir;
  using Names = std::vector<std::string>;
  for (const auto* name : {"train_10.bin", "train_02.bin", "val_1.bin", "odd,name.bin"}) {
    data::write_token_file(dir / name, run_of(0, 4));
  }
  write_file(dir / "notes.txt", "no tokens");
  write_file(dir / ".hidden.bin", "no tokens");
  fs::create_directory(dir / "sub.bin");
  const auto base = dir.path().string();
  EXPECT_EQ(names_of(base), (Names{"odd,name.bin", "train_02.bin", "train_10.bin", "val_1.bin"}));
  EXPECT_EQ(names_of(base + "/train_*.bin"), (Names{"train_02.bin", "train_10.bin"}));
  EXPECT_EQ(names_of(base + "/val_1.bin," + base + "/train_?2.bin"),
            (Names{"val_1.bin", "train_02.bin"}));
  EXPECT_EQ(names_of(base + "/odd,name.bin"), Names{"odd,name.bin"});
  expect_error<InvalidArgument>([&] { names_of(base + "/test_*.bin"); },
                                {"test_*.bin", "found none"});
  expect_error<InvalidArgument>([&] { names_of(base + "/val_1.bin,"); }, {"empty name"});
  expect_error<InvalidArgument>([&] { names_of(""); }, {"empty name"});
  fs::create_directory(dir / "nothing");
  expect_error<InvalidArgument>([&] { names_of(base + "/nothing"); }, {"nothing", "*.bin"});
  expect_error<IoError>([&] { data::open_token_files(base + "/none.bin"); }, {"none.bin"});
  expect_error<IoError>([&] { data::open_token_files(base + "/sub.bin/../s*.bin"); },
                        {"sub.bin", "a directory"});
}

TEST(TokenFiles, ManyAreOneRunAndADamagedOneIsNamed) {
  const TempDir dir;
  data::write_token_file(dir / "a.bin", run_of(0, 5));
  data::write_token_file(dir / "b.bin", {});
  data::write_token_file(dir / "c.bin", run_of(100, 3));
  data::write_token_file(dir / "d.bin", run_of(200, 4));
  const auto tokens = data::open_token_files(dir.path().string());
  ASSERT_EQ(tokens.size(), 12);
  std::vector<std::int32_t> all(12);
  tokens.copy(0, all);
  EXPECT_EQ(all, (std::vector<std::int32_t>{0, 1, 2, 3, 4, 100, 101, 102, 200, 201, 202, 203}));
  for (std::int64_t i = 0; i < 12; ++i) EXPECT_EQ(tokens[i], all[static_cast<std::size_t>(i)]);
  const auto middle = tokens.slice(3, 6);
  std::vector<std::int32_t> part(6);
  middle.copy(0, part);
  EXPECT_EQ(part, (std::vector<std::int32_t>{3, 4, 100, 101, 102, 200}));
  EXPECT_EQ(middle[5], 200);
  const auto pieces = middle.pieces();
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[1].start, 2);
  EXPECT_EQ(pieces[1].length, 3);
  const auto joined = data::Tokens::join(std::vector{middle, tokens.slice(0, 2)});
  EXPECT_EQ(joined[6], 0);
  EXPECT_EQ(joined.size(), 8);

  auto bytes = read_file(dir / "c.bin");
  write_file(dir / "c.bin", bytes.substr(0, bytes.size() - 2));
  expect_error<Corrupt>([&] { data::open_token_files(dir.path().string()); },
                        {"c.bin", "3 tokens", "4 bytes"});
}

TEST(TokenFiles, TokensBeyondTheVocabularyAreNamed) {
  const TempDir dir;
  data::write_token_file(dir / "a.bin", run_of(0, 5));
  data::write_token_file(dir / "b.bin", std::vector<std::uint16_t>{7, 50257, 3});
  const auto tokens = data::open_token_files(dir.path().string());
  EXPECT_EQ(tokens.used_vocabulary(), 50258);
  EXPECT_EQ(tokens.slice(0, 6).used_vocabulary(), 8);
  tokens.require_vocabulary(50258);
  tokens.slice(0, 6).require_vocabulary(8);
  expect_error<Mismatch>([&] { tokens.require_vocabulary(50257); },
                         {"b.bin", "token 50257", "place 1", "0..50256"});
  EXPECT_EQ(data::Tokens().used_vocabulary(), 0);
}

TEST(TokenDataset, WindowsNeverCrossFiles) {
  const TempDir dir;
  data::write_token_file(dir / "a.bin", run_of(0, 21));    // 2 windows of 8, 4 tokens over
  data::write_token_file(dir / "b.bin", run_of(100, 8));   // none: the last has no target
  data::write_token_file(dir / "c.bin", run_of(200, 9));   // 1
  data::write_token_file(dir / "d.bin", run_of(300, 33));  // 4
  const data::TokenDataset dataset(data::open_token_files(dir.path().string()), 8, 3);
  ASSERT_EQ(dataset.windows(), 7);
  const auto batch = dataset.gather(std::vector<std::int64_t>{0, 1, 2, 3, 6});
  const auto inputs = batch.inputs.to_vector<std::int32_t>();
  const auto targets = batch.targets.to_vector<std::int32_t>();
  const int starts[] = {0, 8, 200, 300, 324};
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_EQ(inputs[i], starts[i / 8] + static_cast<int>(i % 8));
    EXPECT_EQ(targets[i], inputs[i] + 1);
  }
  bool first_of_c = false, last_of_d = false;
  for (int iteration = 0; iteration < 100; ++iteration) {
    const auto random = dataset.batch(4, iteration);
    const auto from = random.inputs.to_vector<std::int32_t>();
    const auto to = random.targets.to_vector<std::int32_t>();
    for (std::size_t i = 0; i < from.size(); ++i) {
      ASSERT_EQ(from[i], from[i / 8 * 8] + static_cast<int>(i % 8));
      ASSERT_EQ(to[i], from[i] + 1);
      first_of_c = first_of_c || from[i] == 200;
      last_of_d = last_of_d || to[i] == 332;
    }
  }
  EXPECT_TRUE(first_of_c && last_of_d) << "every window can be drawn";
  expect_error<InvalidArgument>([&] { dataset.gather(std::vector<std::int64_t>{7}); },
                                {"7", "0..6"});
  expect_error<InvalidArgument>([&] { dataset.gather(std::vector<std::int64_t>{-1}); }, {"-1"});
  expect_error<InvalidArgument>([&] { dataset.gather({}); }, {"none"});
  expect_error<InvalidArgument>(
      [&] { data::TokenDataset(data::open_token_files(dir.path().string()), 33, 3, "shards"); },
      {"shards", "in 4 files", "context of 33"});
}

// Each token is a target exactly once an epoch, whatever the number of ranks.
TEST(TokenDataset, AnEpochOfWindowsCoversTheText) {
  const data::TokenDataset dataset(counting(101), 4, 1);
  for (const int world : {1, 3}) {
    std::multiset<std::int32_t> targets;
    for (int rank = 0; rank < world; ++rank) {
      data::DistributedSampler sampler(
          {.samples = dataset.windows(), .rank = rank, .world = world, .batch_size = 4});
      for (auto step = sampler.next(); !step.empty(); step = sampler.next()) {
        if (step[0].is_stand_in()) continue;
        const auto values = dataset.gather(step[0].samples).targets.to_vector<std::int32_t>();
        targets.insert(values.begin(), values.end());
      }
    }
    EXPECT_EQ(targets.size(), 100u);
    EXPECT_EQ(std::set(targets.begin(), targets.end()).size(), 100u);
    EXPECT_EQ(*targets.begin(), 1);
  }
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
