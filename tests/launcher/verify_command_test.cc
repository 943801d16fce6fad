// `weft verify` as a user calls it.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/launcher/child_process.h"
#include "tests/support/scratch.h"

namespace weft::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

struct Answer {
  int code;
  std::string out, err;
};

Answer verify(Arguments rest) {
  rest.insert(rest.begin(), {bin("weft"), "verify"});
  ChildProcess process(rest);
  const int code = process.wait();
  return {code, process.out(), process.err()};
}

std::vector<std::string> rows_of(const std::string& out) {
  std::vector<std::string> rows;
  for (const auto& line : ChildProcess::lines(out)) {
    if (line.find("  proved") != std::string::npos) rows.push_back(line);
  }
  return rows;
}

TEST(VerifyCommand, PrintsOneTable) {
  const Answer answer = verify({"--max-world", "8", "--collective", "all_reduce", "--jobs", "2"});
  EXPECT_EQ(answer.code, 0) << answer.out << answer.err;
  EXPECT_EQ(answer.err, "") << "nobody watches, so there is no progress";
  EXPECT_THAT(answer.out, HasSubstr("algorithm"));
  EXPECT_THAT(answer.out, HasSubstr("all proved: "));
  EXPECT_THAT(answer.out, Not(HasSubstr("REFUTED")));
  const auto rows = rows_of(answer.out);
  EXPECT_GE(rows.size(), 6u * 4u) << answer.out;
  const std::vector<std::string> forms = {"messages  ", "messages, 3 tiles, fused, 2 lanes",
                                          "memory, scratch", "memory, everything"};
  for (const auto& form : forms) {
    EXPECT_THAT(rows, testing::Contains(AllOf(HasSubstr("two_shot"), HasSubstr("all_reduce"),
                                              HasSubstr(form), HasSubstr("1-8"))))
        << answer.out;
  }
}

TEST(VerifyCommand, TakesARangeAlgorithmsAndForms) {
  const Answer answer = verify({"--min-world=60", "--max-world=64", "--algorithm=ring",
                                "--algorithm=tree", "--form=memory"});
  EXPECT_EQ(answer.code, 0) << answer.err;
  const auto rows = rows_of(answer.out);
  EXPECT_EQ(rows.size(), (5u + 6u) * 2u) << answer.out;
  EXPECT_THAT(rows, testing::Each(AllOf(HasSubstr("60-64"), HasSubstr("memory, "))));
}

TEST(VerifyCommand, SaysWhichSizesItLeavesOut) {
  const Answer some = verify({"--min-world=64", "--max-world=130", "--algorithm=direct",
                              "--collective=barrier", "--form=scratch"});
  EXPECT_EQ(some.code, 0) << some.err;
  EXPECT_THAT(some.out, AllOf(HasSubstr("64, 65, 96, 127-129"), HasSubstr("Above 64 ranks")));
  const Answer all = verify({"--min-world=64", "--max-world=130", "--algorithm=tree",
                             "--collective=barrier", "--form=scratch"});
  EXPECT_THAT(all.out, AllOf(HasSubstr("64-130"), Not(HasSubstr("Above 64 ranks"))));
}

TEST(VerifyCommand, WritesJson) {
  const auto path = std::filesystem::path(tests::scratch("verify.json"));
  const Answer answer =
      verify({"--max-world=5", "--algorithm=tree", "--collective=gather", "--json", path.string()});
  EXPECT_EQ(answer.code, 0) << answer.err;
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file);
  std::filesystem::remove(path);
  EXPECT_EQ(json["proved"], true);
  EXPECT_EQ(json["world_max"], 5);
  ASSERT_EQ(json["rows"].size(), 4u);
  EXPECT_EQ(json["rows"][3]["form"], "memory, everything");
  EXPECT_EQ(json["rows"][3]["worlds"], (std::vector<int>{1, 2, 3, 4, 5}));
  EXPECT_EQ(json["rows"][3]["proved"], true);
  EXPECT_GT(json["rows"][3]["proofs"].get<int>(), 10);
}

TEST(VerifyCommand, BadOptionsExit2AndSayWhatIsWrong) {
  const std::vector<std::pair<Arguments, std::string>> cases = {
      {{"--max-world=0"}, "--max-world"},
      {{"--max-world=1025"}, "--max-world"},
      {{"--max-world=many"}, "--max-world"},
      {{"--min-world=9", "--max-world=8"}, "--min-world 9"},
      {{"--jobs=0"}, "--jobs"},
      {{"--algorithm=rings"}, "choose from \"ring\", \"tree\""},
      {{"--collective=all_reduce_v"}, "choose from all_reduce, reduce"},
      {{"--form=telepathy"}, "\"memory, scratch\""},
      {{"--form="}, "--form"},
      {{"--algorithm=two_shot", "--collective=gather"}, "no algorithm among those chosen"},
      {{"--json=/no/such/place/x.json"}, "/no/such/place/x.json"},
      {{"--frobnicate"}, "--frobnicate"},
      {{"surplus"}, "surplus"},
  };
  for (const auto& [options, what] : cases) {
    const Answer answer = verify(options);
    EXPECT_EQ(answer.code, 2) << options[0] << answer.out << answer.err;
    EXPECT_THAT(answer.err, HasSubstr(what)) << options[0];
  }
}

TEST(VerifyCommand, ExplainsItself) {
  const Answer help = verify({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, AllOf(HasSubstr("--max-world"), HasSubstr("--json"), HasSubstr("refuted")));
}

}  // namespace
}  // namespace weft::test
