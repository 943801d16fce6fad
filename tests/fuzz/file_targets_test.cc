// Files that somebody else may have written: checkpoints, tokenizers, secrets.
#include <cstring>

#include "comm/rendezvous/handshake.h"
#include "tensor/checkpoint/safetensors.h"
#include "tensor/data/tokenizer.h"
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

constexpr Target kTargets[] = {
    {"safetensors", "tensor/checkpoint/safetensors_header.cc", safetensors, safetensors_seeds},
    {"tokenizers", "tensor/data/tokenizer.cc", tokenizers, tokenizer_seeds},
    {"secrets", "comm/rendezvous/secret.cc", secrets, secret_seeds},
};

}  // namespace

std::span<const Target> file_targets() { return kTargets; }

}  // namespace weft::fuzz
