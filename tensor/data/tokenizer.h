// From text to token numbers and back. Safe to use from several threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::data {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string_view name() const = 0;  // "char", "byte"
  virtual std::int64_t vocab_size() const = 0;
  // InvalidArgument names the character that is not in the vocabulary, and where it stands.
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
  // InvalidArgument on a number outside the vocabulary.
  virtual std::string decode(std::span<const std::int64_t> tokens) const = 0;
  // What restore() needs: a line of text for a checkpoint.
  virtual std::string save() const = 0;
  static std::unique_ptr<Tokenizer> restore(std::string_view saved);  // Corrupt if it is not ours
};

// One token a byte, 256 of them: any file, any language.
class ByteTokenizer : public Tokenizer {
 public:
  std::string_view name() const override { return "byte"; }
  std::int64_t vocab_size() const override { return 256; }
  std::vector<std::int32_t> encode(std::string_view text) const override;
  std::string decode(std::span<const std::int64_t> tokens) const override;
  std::string save() const override { return "byte:"; }
};

// One token a Unicode code point that occurs in `text` (UTF-8), numbered in code point order, as
// nanoGPT's shakespeare_char.
class CharTokenizer : public Tokenizer {
 public:
  // InvalidArgument on empty text or text that is not UTF-8.
  explicit CharTokenizer(std::string_view text);
  std::string_view name() const override { return "char"; }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(points_.size()); }
  std::vector<std::int32_t> encode(std::string_view text) const override;
  std::string decode(std::span<const std::int64_t> tokens) const override;
  std::string save() const override;

 private:
  std::vector<char32_t> points_;       // sorted
  std::vector<std::int32_t> numbers_;  // by code point, up to the largest; -1: not ours
};

// "char" (its vocabulary taken from `text`) or "byte"; InvalidArgument names the choices.
std::unique_ptr<Tokenizer> make_tokenizer(std::string_view name, std::string_view text);

}  // namespace weft::data
