// Files that somebody else may have written: checkpoints, tokenizers, secrets.
#include <cstring>
#include <stdexcept>

#include "comm/rendezvous/handshake.h"
#include "tensor/checkpoint/safetensors.h"
#include "tensor/data/images.h"
#include "tensor/data/sampler.h"
#include "tensor/data/tokenizer.h"
#include "tensor/data/tokens.h"
#include "tests/fuzz/targets.h"

namespace weft::fuzz {
namespace {

Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }
std::string_view text_of(std::span<const std::uint8_t> input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

void safetensors(std::span<const std::uint8_t> input) {
  checkpoint::parse_header(std::as_bytes(input), "fuzz.safetensors");
}
std::vector<Bytes> safetensors_seeds() {
  const std::string header =
      R"({"__metadata__":{"a":"b"},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]}})";
  Bytes seed(8);
  const std::uint64_t length = header.size();
  std::memcpy(seed.data(), &length, 8);
  seed.insert(seed.end(), header.begin(), header.end());
  seed.resize(seed.size() + 10);
  return {seed};
}

void tokenizers(std::span<const std::uint8_t> input) {
  if (const auto tokenizer = data::Tokenizer::restore(text_of(input))) tokenizer->vocab_size();
}
std::vector<Bytes> tokenizer_seeds() {
  return {bytes_of(data::make_tokenizer("char", "hello world")->save()),
          bytes_of(data::make_tokenizer("byte", "")->save())};
}

void secrets(std::span<const std::uint8_t> input) { comm::parse_secret(text_of(input)); }
std::vector<Bytes> secret_seeds() {
  return {bytes_of(std::string(64, 'a') + "\n"), bytes_of(" 0123456789abcdef")};
}

void token_files(std::span<const std::uint8_t> input) {
  // What is said to be there must be there: the tokens are read where they lie.
  const auto count = data::parse_token_header(std::as_bytes(input), "fuzz.bin");
  if (1024 + 2 * count != static_cast<std::int64_t>(input.size())) {
    throw std::logic_error("a count that the file does not hold");
  }
}
std::vector<Bytes> token_file_seeds() {
  Bytes seed(1024 + 6);
  const std::int32_t header[3] = {20240520, 1, 3};
  std::memcpy(seed.data(), header, sizeof(header));
  return {seed};
}

void idx_files(std::span<const std::uint8_t> input) {
  data::parse_idx(std::as_bytes(input), "fuzz.idx");
}
std::vector<Bytes> idx_seeds() {
  return {{0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4},
          {0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9}};
}

void sampler_positions(std::span<const std::uint8_t> input) {
  data::DistributedSampler sampler({.samples = 50, .rank = 1, .world = 3, .batch_size = 4});
  sampler.restore(text_of(input));
  while (!sampler.next().empty()) {
  }
}
std::vector<Bytes> sampler_seeds() {
  data::DistributedSampler sampler({.samples = 50});
  sampler.next(9);
  return {bytes_of(sampler.save())};
}

constexpr Target kTargets[] = {
    {"safetensors", "tensor/checkpoint/safetensors_header.cc", safetensors, safetensors_seeds},
    {"tokenizers", "tensor/data/tokenizer.cc", tokenizers, tokenizer_seeds},
    {"token_files", "tensor/data/token_file.cc", token_files, token_file_seeds},
    {"idx_files", "tensor/data/images.cc", idx_files, idx_seeds},
    {"sampler_positions", "tensor/data/sampler.cc", sampler_positions, sampler_seeds},
    {"secrets", "comm/rendezvous/secret.cc", secrets, secret_seeds},
};

}  // namespace

std::span<const Target> file_targets() { return kTargets; }

}  // namespace weft::fuzz
