#include "tensor/data/tokenizer.h"

#include "tensor/data/utf8.h"
#include "tests/nn/helpers.h"

namespace weft::nn_test {
namespace {

std::vector<std::int64_t> wide(const std::vector<std::int32_t>& tokens) {
  return {tokens.begin(), tokens.end()};
}

TEST(Tokenizer, CharactersAreNumberedInCodePointOrder) {
  const std::string text = "na\u00efve \U0001F600 \u20ac caf\u00e9\n";
  const data::CharTokenizer tokenizer(text);
  EXPECT_EQ(tokenizer.vocab_size(),
            12);  // newline, space, acefnv, e acute, i diaeresis, euro, smile
  EXPECT_EQ(tokenizer.encode("\n a"), (std::vector<std::int32_t>{0, 1, 2}));
  EXPECT_EQ(tokenizer.encode("\U0001F600"), (std::vector<std::int32_t>{11}));
  EXPECT_EQ(tokenizer.decode(wide(tokenizer.encode(text))), text);
}

TEST(Tokenizer, BytesTakeEverything) {
  const data::ByteTokenizer tokenizer;
  std::string all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(i));
  EXPECT_EQ(tokenizer.vocab_size(), 256);
  EXPECT_EQ(tokenizer.encode(all)[255], 255);
  EXPECT_EQ(tokenizer.decode(wide(tokenizer.encode(all))), all);
}

TEST(Tokenizer, ErrorsSayWhichCharacterAndWhere) {
  const data::CharTokenizer tokenizer("abc");
  expect_error<InvalidArgument>([&] { tokenizer.encode("ab\u00e9"); }, {"U+00E9", "byte 2"});
  expect_error<InvalidArgument>([&] { tokenizer.encode("a\xff"); }, {"UTF-8", "byte 1"});
  expect_error<InvalidArgument>([&] { tokenizer.decode(std::vector<std::int64_t>{3}); },
                                {"3", "0..2"});
  expect_error<InvalidArgument>([] { data::CharTokenizer(""); }, {"empty"});
  expect_error<InvalidArgument>([] { data::CharTokenizer("ok\xc3"); }, {"byte 2"});
  expect_error<InvalidArgument>([] { data::make_tokenizer("word", "x"); },
                                {"word", "char or byte"});
}

TEST(Tokenizer, ComesBackFromItsSavedForm) {
  const std::string text = "z\u20ac:a\n";
  const auto saved = data::CharTokenizer(text).save();
  const auto restored = data::Tokenizer::restore(saved);
  EXPECT_EQ(restored->name(), "char");
  EXPECT_EQ(restored->encode(text), data::CharTokenizer(text).encode(text));
  EXPECT_EQ(data::Tokenizer::restore("byte:")->vocab_size(), 256);
  for (const auto* bad :
       {"", "char", "char:", "char:ba", "char:aab", "char:\xff", "byte", "byte:x", "word:abc"}) {
    expect_error<Corrupt>([&] { data::Tokenizer::restore(bad); }, {"saved tokenizer"});
  }
}

TEST(Utf8, RefusesWhatTheStandardRefuses) {
  for (const auto* bad : {"\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80",
                          "\xf8\x88\x80\x80\x80", "\xe2\x82", "\xe2\x28\xa1"}) {
    EXPECT_EQ(data::first_invalid_utf8(std::string("ab") + bad), 2u) << bad;
  }
  std::string all;
  for (char32_t c = 1; c < 0x110000; c += 97) {
    if (c < 0xd800 || c > 0xdfff) data::append_utf8(all, c);
  }
  EXPECT_EQ(data::first_invalid_utf8(all), std::nullopt);
}

}  // namespace
}  // namespace weft::nn_test
