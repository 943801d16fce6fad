#include "launcher/job/lines.h"

#include <gmock/gmock.h>

#include <vector>

namespace weft::launcher {
namespace {

using testing::ElementsAre;

std::vector<std::string> split(const std::vector<std::string>& pieces) {
  std::vector<std::string> lines;
  LineSplitter splitter;
  const auto sink = [&](std::string_view line) { lines.emplace_back(line); };
  for (const auto& piece : pieces) splitter.feed(piece, sink);
  splitter.finish(sink);
  return lines;
}

TEST(Lines, JoinsPiecesAndFlushesTheLast) {
  EXPECT_THAT(split({"a", "b\nc\n\nd", "e"}), ElementsAre("ab", "c", "", "de"));
  EXPECT_THAT(split({}), ElementsAre());
}

TEST(Lines, CarriageReturnStartsTheLineOver) {
  EXPECT_THAT(split({"10%\r20%\r", "30%\nnext\n"}), ElementsAre("30%", "next"));
  EXPECT_THAT(split({"\r1\r2\r3"}), ElementsAre("3"));
  EXPECT_THAT(split({"100%\r"}), ElementsAre("100%"));
}

TEST(Lines, CarriageReturnBeforeNewlineIsALineEnd) {
  EXPECT_THAT(split({"a\r\nb\r", "\nc\r\r\n"}), ElementsAre("a", "b", "c"));
}

TEST(Lines, ShowsTheLineBeingRewritten) {
  LineSplitter splitter;
  const auto sink = [](std::string_view) {};
  splitter.feed("plain", sink);
  EXPECT_EQ(splitter.visible(), "");
  splitter.feed("\n10%\r", sink);
  EXPECT_EQ(splitter.visible(), "10%");
  splitter.feed("20%", sink);
  EXPECT_EQ(splitter.visible(), "20%");
  splitter.feed("\n", sink);
  EXPECT_EQ(splitter.visible(), "");
}

TEST(Lines, LongLinesAreCutBetweenCharacters) {
  std::string text = "x";
  while (text.size() < 3 * kLineBytesMax) text += "\xe2\x82\xac";  // the euro sign, three bytes
  std::string joined;
  for (const auto& line : split({text})) {
    EXPECT_LE(line.size(), kLineBytesMax);
    EXPECT_NE(static_cast<unsigned char>(line.front()) & 0xc0, 0x80) << "cut within a character";
    joined += line;
  }
  EXPECT_EQ(joined, text);
}

TEST(Lines, LongLinesThatAreNotTextAreCutToo) {
  const std::string text(kLineBytesMax + 10, '\x80');
  EXPECT_THAT(split({text}), ElementsAre(text.substr(0, kLineBytesMax), text.substr(0, 10)));
}

}  // namespace
}  // namespace weft::launcher
