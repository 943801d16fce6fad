// Files from anywhere: what they say, and what is said about damaged ones.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <random>

#include "comm/trace/flight_file.h"
#include "comm/trace/merge.h"
#include "kernels/base/error.h"
#include "tests/trace/files.h"

namespace weft::comm::trace {
namespace {

using test::contents;
using test::ScratchDirectory;
using test::write_file;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kHead =
    R"({"weft_timeline":{"version":1,"rank":1,"host":"a","pid":7,"job":"j","communicator":"world",)"
    R"("number":1,"communicator_rank":1,"world_size":2,"base_monotonic_ns":1000000,)"
    R"("base_epoch_ns":1700000000000000000,"clock_id":"c","clock":[{"at_ns":5,"offset_ns":-6,)"
    R"("uncertainty_ns":7}],"dropped":3},"displayTimeUnit":"ns","traceEvents":[)";
const std::string kMeta =
    R"j({"ph":"M","name":"process_name","pid":1,"args":{"name":"rank 1 (a)"}})j";
const std::string kSend =
    R"({"ph":"X","name":"send","cat":"message","pid":1,"tid":100,"ts":1.500,"dur":2.250,"args":)"
    R"({"op":"all_reduce #1","peer":0,"lane":0,"bytes":8,"sequence":1,"index":0,"cut":false}})";
const std::string kBegin =
    R"({"ph":"b","name":"all_reduce #1","cat":"operation","id":"0x1f","pid":1,"tid":1,"ts":-1.0})";

std::string timeline(const std::vector<std::string>& events) {
  std::string text = kHead + "\n";
  for (std::size_t i = 0; i < events.size(); ++i) {
    text += events[i] + (i + 1 < events.size() ? ",\n" : "\n");
  }
  return text + "]}\n";
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const auto at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), by);
}

class Readers : public ::testing::Test {
 protected:
  // What is said about a file with these contents; "" if it is fine.
  std::string said(const std::string& text, const std::function<void(const std::string&)>& read) {
    const std::string path = directory_ / "f.json";
    write_file(path, text);
    try {
      read(path);
      return {};
    } catch (const Corrupt& error) {
      EXPECT_THAT(error.what(), HasSubstr(path));
      return error.what();
    }
  }
  std::string said_of_timeline(const std::string& text) { return said(text, read_timeline); }
  std::string said_of_dump(const std::string& text) {
    return said(text, [](const std::string& path) { read_flight_dump(path); });
  }
  static void read_timeline(const std::string& path) {
    TimelineReader reader(path);
    TimelineEvent event;
    while (reader.next(event)) {
    }
  }
  ScratchDirectory directory_;
};

TEST_F(Readers, PipesAreNoFiles) {
  const std::string pipe = directory_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);  // nobody writes to it
  EXPECT_THROW(TimelineReader{pipe}, IoError);
  EXPECT_THROW(read_flight_dump(pipe), IoError);
}

TEST_F(Readers, ATimelineIsRead) {
  write_file(directory_ / "t", timeline({kMeta, kSend, kBegin}));
  TimelineReader reader(directory_ / "t");
  EXPECT_EQ(reader.head().identity.job_rank, 1);
  EXPECT_EQ(reader.head().identity.communicator, "world");
  EXPECT_EQ(reader.head().dropped, 3u);
  ASSERT_EQ(reader.head().clock.size(), 1u);
  EXPECT_EQ(reader.head().clock[0].offset_ns, -6);
  TimelineEvent event;
  ASSERT_TRUE(reader.next(event));
  EXPECT_EQ(event.phase, 'M');
  ASSERT_TRUE(reader.next(event));
  EXPECT_EQ(event.at_ns, 1500);
  EXPECT_EQ(event.length_ns, 2250);
  EXPECT_TRUE(event.is_message);
  EXPECT_EQ(event.sequence, 1);
  ASSERT_TRUE(reader.next(event));
  EXPECT_EQ(event.id, "0x1f");
  EXPECT_EQ(event.at_ns, -1000);
  EXPECT_FALSE(reader.next(event));
  EXPECT_FALSE(reader.next(event));
}

TEST_F(Readers, ADamagedTimelineIsNamedByLineAndField) {
  const std::string good = timeline({kMeta, kSend, kBegin});
  EXPECT_EQ(said_of_timeline(good), "");
  const auto broken = [&](const std::string& what, const std::string& by) {
    return said_of_timeline(replaced(good, what, by));
  };
  EXPECT_THAT(broken("\"rank\":1", "\"rank\":-1"),
              AllOf(HasSubstr("line 1"), HasSubstr("\"rank\": expected 0 to")));
  EXPECT_THAT(broken("\"offset_ns\":-6", "\"offset_ns\":1e3"), HasSubstr("\"offset_ns\""));
  EXPECT_THAT(broken("\"version\":1", "\"version\":2"), HasSubstr("\"version\""));
  EXPECT_THAT(broken("\"host\":\"a\",", ""), HasSubstr("\"host\" is missing"));
  EXPECT_THAT(broken("\"ph\":\"X\"", "\"ph\":\"Q\""),
              AllOf(HasSubstr("line 3"), HasSubstr("\"ph\""), HasSubstr("\"Q\"")));
  EXPECT_THAT(broken("\"ts\":1.500", "\"ts\":\"1\""), HasSubstr("\"ts\""));
  EXPECT_THAT(broken("\"dur\":2.250", "\"dur\":-2"), HasSubstr("\"dur\""));
  EXPECT_THAT(broken("\"dur\":2.250", "\"dur\":1e300"), HasSubstr("\"dur\""));
  EXPECT_THAT(broken("\"peer\":0", "\"peer\":null"),
              AllOf(HasSubstr("\"args\""), HasSubstr("\"peer\"")));
  EXPECT_THAT(broken("\"id\":\"0x1f\"", "\"id\":\"zz\""), HasSubstr("\"id\""));
  EXPECT_THAT(broken("},\n{\"ph\":\"b\"", "}\n{\"ph\":\"b\""), HasSubstr("expected ]}"));
  EXPECT_THAT(said_of_timeline(good.substr(0, good.size() - 3)), HasSubstr("cut off"));
  EXPECT_THAT(said_of_timeline(good + "more"), HasSubstr("text after the end"));
  EXPECT_THAT(said_of_timeline(""), HasSubstr("not the head of a timeline"));
  EXPECT_THAT(said_of_timeline(std::string(3 << 20, 'x')), HasSubstr("more than"));
  EXPECT_THROW(TimelineReader(directory_ / "gone"), IoError);
}

const std::string kDump =
    R"({"weft_flight_recorder":1,"rank":0,"host":"a","pid":7,"thread":7,"job":"j","reason":)"
    R"({"kind":"signal","text":"SIGUSR2","signal":12},"written_ns":3000000000,"clock":)"
    R"({"source":"tsc","monotonic_ns":1,"epoch_offset_ns":2},"communicators":[{"name":"world",)"
    R"("rank":0,"world_size":3,"failure":null,"operations_begun":2,"operations":[)"
    R"({"serial":1,"sequence":40,"kind":"barrier","state":"complete","algorithm":"tree",)"
    R"("count":0,"bytes":0,"start_ns":1000000000,"end_ns":1000001000,"steps_done":4,"steps":4},)"
    R"({"serial":2,"sequence":41,"kind":"all_reduce","state":"running","dtype":"f32","op":"sum",)"
    R"("algorithm":"ring","count":10,"bytes":40,"start_ns":2000000000,"end_ns":null,)"
    R"("steps_done":1,"steps":6}]}]})";

TEST_F(Readers, ADumpIsReadAndADamagedOneNamed) {
  EXPECT_EQ(said_of_dump(kDump), "");
  const FlightDump dump = read_flight_dump(directory_ / "f.json");
  EXPECT_EQ(dump.communicators.at(0).operations.at(1).call(), "all_reduce, 10 x f32, sum");
  const auto broken = [&](const std::string& what, const std::string& by) {
    return said_of_dump(replaced(kDump, what, by));
  };
  EXPECT_THAT(broken("\"sequence\":41", "\"sequence\":\"41\""),
              AllOf(HasSubstr("communicator 1, operation 2"), HasSubstr("\"sequence\"")));
  EXPECT_THAT(broken("\"running\"", "\"walking\""), HasSubstr("\"state\""));
  EXPECT_THAT(broken("\"world_size\":3", "\"world_size\":0"), HasSubstr("\"world_size\""));
  EXPECT_THAT(broken("\"weft_flight_recorder\":1,", ""), HasSubstr("missing"));
  EXPECT_THAT(said_of_dump(kDump.substr(0, 200)), HasSubstr("cut off, at character"));
  EXPECT_THAT(said_of_dump("[1,2]"), HasSubstr("expected an object"));
  EXPECT_THAT(said_of_dump("{\"weft_flight_recorder\":1e999}"), HasSubstr("number overflow"));
  EXPECT_THAT(said_of_dump(std::string(1 << 20, '[')), HasSubstr("levels of brackets"));
}

// Bytes flipped, cut out, doubled: read, or refused with the file's name; nothing else.
TEST_F(Readers, SurviveMutations) {
  std::mt19937 random(20'260'729);
  const std::string inputs[] = {timeline({kMeta, kSend, kBegin}), kDump};
  int refused = 0;
  for (int k = 0; k < 3000; ++k) {
    std::string text = inputs[k % 2];
    for (int times = static_cast<int>(random() % 3); times >= 0; --times) {
      const std::size_t at = random() % text.size();
      const std::size_t length = 1 + random() % 20;
      switch (random() % 5) {
        case 0:
          text[at] = static_cast<char>(text[at] ^ (1 << random() % 8));
          break;
        case 1:
          text.erase(at, length);
          break;
        case 2:
          text.insert(at, text.substr(random() % text.size(), length));
          break;
        case 3:
          text.resize(at + 1);
          break;
        default:
          text[at] = static_cast<char>("0123456789-+eE.\"{}[],:\\n\n"[random() % 25]);
          break;
      }
      if (text.empty()) text.push_back(' ');
    }
    const std::string verdict = k % 2 == 0 ? said_of_timeline(text) : said_of_dump(text);
    refused += verdict.empty() ? 0 : 1;
    if (k % 2 == 0 && verdict.empty()) {
      merge_timelines({{directory_ / "f.json"}, directory_ / "merged", ""});
    }
  }
  EXPECT_GT(refused, 2000);
}

FlightDump dump_of(int rank, std::vector<DumpedOperation> operations, const std::string& why = "") {
  FlightDump dump;
  dump.path = fmt::format("flight.{}.json", rank);
  dump.rank = rank;
  dump.host = "a";
  dump.pid = 100 + rank;
  dump.reason = "SIGUSR2";
  dump.by_signal = true;
  dump.written_ns = 2'000'000'000;
  DumpedCommunicator world;
  world.name = "world";
  world.rank = rank;
  world.world_size = 4;
  world.failure = why;
  world.operations = std::move(operations);
  dump.communicators.push_back(world);
  return dump;
}

DumpedOperation operation_of(std::int64_t sequence, State state,
                             const std::string& kind = "all_reduce") {
  DumpedOperation operation;
  operation.sequence = sequence;
  operation.kind = kind;
  operation.state = state;
  operation.dtype = "f32";
  operation.algorithm = "ring";
  operation.count = 10;
  operation.start_ns = 1'000'000'000;
  operation.steps = 6;
  operation.steps_done = state == State::complete ? 6 : 2;
  if (state >= State::complete) operation.end_ns = 1'500'000'000;
  return operation;
}

TEST(Compare, SaysWhoIsBehindAndWhoIsMissing) {
  const auto ahead = [](int rank) {
    return dump_of(rank, {operation_of(41, State::complete), operation_of(42, State::complete),
                          operation_of(43, State::running)});
  };
  const std::string text =
      compare_flight_dumps({ahead(3), ahead(0), dump_of(2, {operation_of(41, State::running)})}, 1);
  EXPECT_THAT(text, HasSubstr("communicator world of 4 ranks, 3 dumped"));
  EXPECT_THAT(text, HasSubstr("behind: rank 2 is in all_reduce #41\n"
                              "          ranks 0 and 3 are in all_reduce #43\n"));
  EXPECT_THAT(text, HasSubstr("no dump of its rank 1"));
  EXPECT_THAT(text,
              HasSubstr("all_reduce #43, 10 x f32, ring: running, 2 of 6 steps, for 1.000 s"));
  EXPECT_THAT(text, Not(HasSubstr("#42")));
  EXPECT_THROW(compare_flight_dumps({ahead(0), ahead(0)}, 1), InvalidArgument);
}

TEST(Compare, SaysWhoDisagrees) {
  const std::string text = compare_flight_dumps(
      {dump_of(0, {operation_of(7, State::running)}),
       dump_of(1, {operation_of(7, State::running, "broadcast")}, "ranks disagree"),
       dump_of(2, {operation_of(7, State::running)})},
      4);
  EXPECT_THAT(text, HasSubstr("they disagree about #7:\n"
                              "    ranks 0 and 2: all_reduce, 10 x f32\n"
                              "    rank 1: broadcast, 10 x f32\n"));
  EXPECT_THAT(text, HasSubstr("failure: ranks disagree"));
}

TEST(ClockMaps, InterpolateBetweenMeasurements) {
  const ClockMap none(ClockMap::Source::reference, {});
  EXPECT_EQ(none.to_reference(5), 5);
  const ClockMap once(ClockMap::Source::measured, {{100, -40, 3}});
  EXPECT_EQ(once.to_reference(1000), 960);
  EXPECT_EQ(once.uncertainty_ns(), 3);
  // A clock that gains 100 ppm: 1 ms in 10 s.
  const ClockMap twice(ClockMap::Source::measured,
                       {{10'000'000'000, -2'000'000, 9}, {0, -1'000'000, 3}});
  EXPECT_EQ(twice.to_reference(0), -1'000'000);
  EXPECT_EQ(twice.to_reference(5'000'000'000), 5'000'000'000 - 1'500'000);
  EXPECT_EQ(twice.to_reference(20'000'000'000), 20'000'000'000 - 3'000'000);
  EXPECT_EQ(twice.uncertainty_ns(), 9);
}

// Two ranks of one job: who sent what to whom, on clocks that are 1 ms apart.
TEST(Merge, ArrowsJoinWhatBelongsTogether) {
  const ScratchDirectory directory;
  const auto make = [&](int rank, const std::string& clock, const std::string& points,
                        const std::string& event) {
    std::string text = replaced(timeline({event}), "\"rank\":1", fmt::format("\"rank\":{}", rank));
    text = replaced(text, "\"clock_id\":\"c\"", fmt::format("\"clock_id\":\"{}\"", clock));
    text = replaced(text, R"([{"at_ns":5,"offset_ns":-6,"uncertainty_ns":7}])", points);
    text = replaced(text, "\"pid\":1", fmt::format("\"pid\":{}", rank));
    write_file(directory / fmt::format("timeline.{}.7.1.json", rank), text);
  };
  make(1, "y", R"([{"at_ns":0,"offset_ns":-1000000,"uncertainty_ns":7}])", kSend);
  make(0, "x", "[]",
       replaced(replaced(kSend, "\"send\"", "\"receive\""), "\"peer\":0", "\"peer\":1"));
  const MergeReport report = merge_timelines({{directory.path()}, directory / "m", ""});
  EXPECT_EQ(report.arrows, 1u);
  EXPECT_EQ(report.dropped, 6u);
  ASSERT_EQ(report.clocks.size(), 2u);
  EXPECT_THAT(report.clocks[1], HasSubstr("+1.000 ms"));
  const std::string merged = contents(directory / "m");
  EXPECT_THAT(merged, HasSubstr(R"("ph":"s","name":"message","cat":"message","id":1,"pid":1,)"));
  EXPECT_THAT(merged, HasSubstr(R"("ph":"f","name":"message","cat":"message","id":1,"pid":0,)"));
  EXPECT_THAT(merged, HasSubstr(R"("pid":1,"tid":100,"ts":1.500)"));
  EXPECT_THAT(merged, HasSubstr(R"("pid":0,"tid":100,"ts":1001.500)"));
  // Files of another job among them are a mistake, until one is chosen.
  write_file(directory / "timeline.3.9.1.json",
             replaced(timeline({kMeta}), "\"job\":\"j\"", "\"job\":\"other\""));
  EXPECT_THROW(merge_timelines({{directory.path()}, directory / "m", ""}), InvalidArgument);
  EXPECT_EQ(merge_timelines({{directory.path()}, directory / "m", "j"}).files, 2);
}

// What is no file is written, not replaced; and nothing that was read is lost.
TEST(Merge, ReplacesNothingButAnOldMerge) {
  const ScratchDirectory directory;
  const std::string input = directory / "timeline.1.7.1.json";
  write_file(input, timeline({kMeta}));
  EXPECT_THROW(merge_timelines({{input}, input, ""}), InvalidArgument);
  EXPECT_EQ(contents(input), timeline({kMeta}));
  const std::string pipe = directory / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int fd = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);  // a reader: opening does not wait
  ASSERT_GE(fd, 0);
  merge_timelines({{input}, pipe, ""});
  std::string text(4096, '\0');
  const ssize_t n = ::read(fd, text.data(), text.size());
  ::close(fd);
  ASSERT_GT(n, 0);
  EXPECT_EQ(text.substr(0, 15), "{\"weft_merged\":");
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
}

}  // namespace
}  // namespace weft::comm::trace
