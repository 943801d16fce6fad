#include "tensor/checkpoint/safetensors.h"

#include <cstring>

#include "tensor/random.h"
#include "tests/nn/helpers.h"

namespace weft::nn_test {
namespace {

using checkpoint::SafeTensors;

std::string file_bytes(const std::string& header, const std::string& data) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i));
  return bytes + header + data;
}

checkpoint::Header parse(const std::string& bytes) {
  return checkpoint::parse_header(std::as_bytes(std::span(bytes)), "x.safetensors");
}

TEST(SafeTensors, ReadsWhatThePythonPackageWrites) {
  const SafeTensors file(fixture("package.safetensors"));
  EXPECT_EQ(file.metadata(), (checkpoint::Metadata{{"format", "pt"}}));
  EXPECT_EQ(file.tensors().size(), 8u);
  EXPECT_EQ(file.tensor("zeta").shape(), (Shape{2, 3}));
  EXPECT_EQ(file.tensor("zeta").to_vector<float>()[5], 1.25f);
  EXPECT_EQ(file.tensor("alpha").to(DType::f32).to_vector<float>()[1], -2.0f);
  EXPECT_EQ(file.tensor("half").to(DType::f32).to_vector<float>()[1], 65504.0f);
  EXPECT_EQ(file.tensor("wide").item(), 3.141592653589793);
  EXPECT_EQ(file.tensor("ids").to_vector<std::int64_t>()[1], std::int64_t{1} << 40);
  EXPECT_EQ(file.tensor("small").to_vector<std::int32_t>()[1], -7);
  EXPECT_EQ(file.tensor("bytes \u00e9\"\n").to_vector<std::uint8_t>()[1], 255);
  EXPECT_EQ(file.tensor("empty").shape(), (Shape{0, 4}));
  expect_error<InvalidArgument>([&] { file.tensor("none"); }, {"package.safetensors", "none"});
}

TEST(SafeTensors, WritesWhatThePythonPackageWrites) {
  const TempDir dir;
  const SafeTensors file(fixture("package.safetensors"));
  auto state = file.state_dict();
  std::reverse(state.begin(), state.end());  // the order given does not matter
  checkpoint::save_safetensors(dir / "ours.safetensors", state, file.metadata());
  EXPECT_EQ(read_file(dir / "ours.safetensors"), read_file(fixture("package.safetensors")));
}

TEST(SafeTensors, TheBytesAreWhatTheFormatSays) {
  const TempDir dir;
  const auto path = dir / "a.safetensors";
  const auto strided = Tensor::from(std::vector<std::int32_t>{1, 2, 3, 4}, {2, 2}).transpose(0, 1);
  checkpoint::save_safetensors(
      path, {{"b", Tensor::from(std::vector<std::uint8_t>{9}, {1})}, {"a", strided}});
  const std::string header = R"({"a":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]},)"
                             R"("b":{"dtype":"U8","shape":[1],"data_offsets":[16,17]}})";
  const std::string padding((8 - header.size() % 8) % 8, ' ');
  const std::string data("\1\0\0\0\3\0\0\0\2\0\0\0\4\0\0\0\x09", 17);
  EXPECT_EQ(read_file(path), file_bytes(header + padding, data));
  expect_error<InvalidArgument>(
      [&] {
        checkpoint::save_safetensors(path, {{"a", strided}, {"a", strided}});
      },
      {"'a'"});
  expect_error<InvalidArgument>(
      [&] {
        checkpoint::save_safetensors(path, {{"\xff", strided}});
      },
      {"UTF-8"});
  EXPECT_EQ(read_file(path), file_bytes(header + padding, data));  // the old file is whole
}

TEST(SafeTensors, TensorsOutliveTheReaderAndMisalignedOnesAreCopied) {
  const TempDir dir;
  write_file(dir / "odd", file_bytes(R"({"u":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                     R"("d":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}})",
                                     std::string("\7\0\0\0\0\0\0\xf0\x3f", 9)));
  Tensor odd, byte;
  {
    const SafeTensors file(dir / "odd");
    odd = file.tensor("d");
    byte = file.tensor("u");
  }
  EXPECT_EQ(odd.item(), 1.0);
  byte.fill_(1.0);  // ours, not the file's
  EXPECT_EQ(byte.item(), 1.0);
  EXPECT_EQ(SafeTensors(dir / "odd").tensor("u").item(), 7.0);
}

TEST(SafeTensors, TypesWeftHasNotArePassedOver) {
  const TempDir dir;
  write_file(dir / "mask", file_bytes(R"({"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]},)"
                                      R"("u":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                                      "\1\1\1"));
  const SafeTensors file(dir / "mask");
  std::vector<std::string> skipped;
  EXPECT_EQ(file.state_dict(&skipped).size(), 1u);
  EXPECT_EQ(skipped, std::vector<std::string>{"m"});
  expect_error<Unsupported>([&] { file.tensor("m"); }, {"mask", "'m'", "BOOL"});
}

std::string entry(const std::string& name, const std::string& shape, int begin, int end,
                  const std::string& type = "U8") {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", name, type,
                     shape, begin, end);
}

TEST(SafeTensors, EveryLieInAHeaderIsCorrupt) {
  const auto refuses = [](const std::string& header, const std::string& data,
                          std::initializer_list<std::string> parts) {
    SCOPED_TRACE(header);
    expect_error<Corrupt>([&] { parse(file_bytes(header, data)); }, parts);
    expect_error<Corrupt>([&] { parse(file_bytes(header, data)); }, {"x.safetensors"});
  };
  const auto a = entry("a", "[2]", 0, 2);
  EXPECT_EQ(parse(file_bytes("{" + a + "}", "ab")).tensors.size(), 1u);
  EXPECT_EQ(parse(file_bytes("{}", "")).tensors.size(), 0u);
  refuses("{" + a + "}", "a", {"truncated"});
  refuses("{" + a + "}", "abc", {"trailing garbage"});
  refuses("{" + a + "," + entry("b", "[1]", 3, 4) + "}", "abcd", {"'b'", "hole"});
  refuses("{" + a + "," + entry("b", "[2]", 1, 3) + "}", "abc", {"'b'", "overlaps"});
  refuses("{" + a + "," + a + "}", "ab", {"'a'", "twice"});
  refuses("{" + entry("a", "[3]", 0, 2) + "}", "ab", {"'a'", "(3,)", "expected 3 bytes", "[0, 2]"});
  refuses("{" + entry("a", "[2]", 2, 0) + "}", "ab", {"'a'", "[2, 0]"});
  refuses("{" + entry("a", "[1]", 0, 2, "F3") + "}", "ab", {"'a'", "F3"});
  refuses("{" + entry("a", "[4294967296,4294967296]", 0, 2) + "}", "ab", {"'a'", "expected fewer"});
  refuses("{" + entry("a", "[9223372036854775807]", 0, 2) + "}", "ab", {"'a'", "larger"});
  refuses("{" + entry("a", "[-2]", 0, 2) + "}", "ab", {"negative"});
  refuses("{" + entry("a", "[2.0]", 0, 2) + "}", "ab", {"number 2.0"});
  refuses("{" + entry("a", "[[2]]", 0, 2) + "}", "ab", {"list"});
  refuses("{" + entry("a", "2", 0, 2) + "}", "ab", {"number"});
  refuses(R"({"a":{"dtype":"U8","shape":[2]}})", "ab", {"'a'", "data_offsets", "found less"});
  refuses(R"({"a":{"dtype":"U8","dtype":"U8"}})", "ab", {"'dtype'", "twice"});
  refuses(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0]}})", "ab", {"two numbers"});
  refuses(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2,2]}})", "ab", {"number"});
  refuses(R"({"a":{"dtype":"U8","shape":[2],"extra":1,"data_offsets":[0,2]}})", "ab", {"'extra'"});
  refuses(R"({"a":null})", "", {"null"});
  refuses(R"({"a":5000000000000000000})", "", {"number"});
  refuses(R"({"__metadata__":{"k":1}})", "", {"number"});
  refuses(R"({"__metadata__":{"k":"v","k":"v"}})", "", {"twice"});
  refuses("{" + a + "} x", "ab", {"no JSON"});
  refuses("{" + entry("\xff", "[2]", 0, 2) + "}", "ab", {"no JSON"});
  refuses("{", "", {"no JSON"});
  refuses(" {}", "", {"begin with {"});
  refuses("", "", {"begin with {"});
  refuses("{\"a\":" + std::string(100000, '['), "", {"list"});
}

TEST(SafeTensors, LengthsAreNotTrusted) {
  expect_error<Corrupt>([] { parse("1234567"); }, {"7 bytes"});
  expect_error<Corrupt>([] { parse(std::string("\x10\0\0\0\0\0\0\0{}", 10)); },
                        {"truncated", "16 bytes", "2 are there"});
  expect_error<Corrupt>([] { parse(std::string(8, '\xff') + "{}"); }, {"at most 100000000"});
  expect_error<IoError>([] { SafeTensors("/nonexistent/file"); }, {"/nonexistent/file"});
}

// Whatever is done to the bytes, the answer is a header that holds or Corrupt.
TEST(SafeTensors, MutationsNeverCrash) {
  const auto good = read_file(fixture("package.safetensors"));
  tensor::Generator generator(20240520);
  const auto below = [&](std::size_t n) {
    return static_cast<std::size_t>(generator.next_below(n));
  };
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    auto bytes = good;
    for (auto edits = 1 + below(3); edits > 0 && !bytes.empty(); --edits) {
      const auto at = below(bytes.size());
      switch (below(5)) {
        case 0:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
          break;
        case 1:
          bytes[at] = "{}[]\",:0129-.\\etn \0"[below(19)];
          break;
        case 2:
          bytes.erase(at, 1 + below(8));
          break;
        case 3:
          bytes.insert(at, bytes.substr(below(bytes.size()), 1 + below(40)));
          break;
        default:
          bytes.resize(at + 1);
      }
    }
    try {
      const auto header = parse(bytes);
      std::size_t at = 0;
      for (const auto& info : header.tensors) {
        ASSERT_EQ(info.begin, at);
        ASSERT_LE(info.end, bytes.size() - header.data_start);
        at = info.end;
      }
    } catch (const Corrupt& error) {
      ASSERT_THAT(error.what(), testing::HasSubstr("x.safetensors"));
      ++refused;
    }
  }
  EXPECT_GT(refused, 10000);
  EXPECT_LT(refused, 20000) << "flips in the data alone are not seen";
}

}  // namespace
}  // namespace weft::nn_test
