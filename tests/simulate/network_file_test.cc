// Network files: what they may say, and what is said about those that are damaged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "comm/simulate/network.h"
#include "kernels/base/error.h"
#include "tests/support/scratch.h"

namespace weft::comm::simulate {
namespace {

using testing::HasSubstr;

Network parse(const std::string& text, std::int32_t ranks = 8, std::int32_t per_host = 0) {
  return parse_network(text, "net.json", ranks, per_host);
}

std::string error_of(const std::string& text, std::int32_t ranks = 8) {
  try {
    parse(text, ranks);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no error";
}

TEST(NetworkFile, SaysNothingAndGetsTheDefaults) {
  const Network network = parse("{}");
  EXPECT_EQ(network.hosts(), 8);
  EXPECT_EQ(network.ranks(), 8);
  EXPECT_EQ(network.link.up_gbit_s, LinkModel().up_gbit_s);
  EXPECT_EQ(network.cpu.send_us, CpuModel().send_us);
  EXPECT_TRUE(network.stragglers.empty());
}

TEST(NetworkFile, EveryFieldIsRead) {
  const Network n = parse(R"({
    "ranks_on_hosts": [4, 3, 1],
    "link": {"up_gbit_s": 1, "down_gbit_s": 2, "latency_us": 3, "payload_share": 0.5,
             "frame_bytes": 5, "burst_bytes": 6, "send_buffer_bytes": 7},
    "rack": {"hosts": 2, "oversubscription": 8.5, "latency_us": 9},
    "core": {"gbit_s": 10},
    "memory": {"latency_us": 11, "message_us": 12, "copy_gbyte_s": 13, "host_gbyte_s": 14},
    "cpu": {"send_us": 15, "receive_us": 16, "send_gbyte_s": 17, "receive_gbyte_s": 18,
            "reduce_gbyte_s": 19, "copy_gbyte_s": 20, "wake_us": 21, "spin_us": 22,
            "cores_per_host": 23, "cores_of_all_hosts": 24},
    "stragglers": [{"rank": 7, "cpu_slowdown": 2, "delay_us": 3}, {"host": 1, "link_slowdown": 4}],
    "background": [{"host": 2, "up_share": 0.1}, {"down_share": 0.2}]
  })");
  EXPECT_EQ(n.ranks_on_hosts, (std::vector<std::int32_t>{4, 3, 1}));
  EXPECT_EQ(n.link.up_gbit_s, 1);
  EXPECT_EQ(n.link.down_gbit_s, 2);
  EXPECT_EQ(n.link.latency_us, 3);
  EXPECT_EQ(n.link.payload_share, 0.5);
  EXPECT_EQ(n.link.frame_bytes, 5);
  EXPECT_EQ(n.link.burst_bytes, 6);
  EXPECT_EQ(n.link.send_buffer_bytes, 7);
  EXPECT_EQ(n.rack.hosts, 2);
  EXPECT_EQ(n.rack.oversubscription, 8.5);
  EXPECT_EQ(n.rack.latency_us, 9);
  EXPECT_EQ(n.core.gbit_s, 10);
  EXPECT_EQ(n.memory.latency_us, 11);
  EXPECT_EQ(n.memory.message_us, 12);
  EXPECT_EQ(n.memory.copy_gbyte_s, 13);
  EXPECT_EQ(n.memory.host_gbyte_s, 14);
  EXPECT_EQ(n.cpu.send_us, 15);
  EXPECT_EQ(n.cpu.receive_us, 16);
  EXPECT_EQ(n.cpu.send_gbyte_s, 17);
  EXPECT_EQ(n.cpu.receive_gbyte_s, 18);
  EXPECT_EQ(n.cpu.reduce_gbyte_s, 19);
  EXPECT_EQ(n.cpu.copy_gbyte_s, 20);
  EXPECT_EQ(n.cpu.wake_us, 21);
  EXPECT_EQ(n.cpu.spin_us, 22);
  EXPECT_EQ(n.cpu.cores_per_host, 23);
  EXPECT_EQ(n.cpu.cores_of_all_hosts, 24);
  ASSERT_EQ(n.stragglers.size(), 2u);
  EXPECT_EQ(n.stragglers[0].rank, 7);
  EXPECT_EQ(n.stragglers[0].cpu_slowdown, 2);
  EXPECT_EQ(n.stragglers[0].delay_us, 3);
  EXPECT_EQ(n.stragglers[1].host, 1);
  EXPECT_EQ(n.stragglers[1].link_slowdown, 4);
  ASSERT_EQ(n.background.size(), 2u);
  EXPECT_EQ(n.background[0].host, 2);
  EXPECT_EQ(n.background[0].up_share, 0.1);
  EXPECT_EQ(n.background[1].host, -1);
  EXPECT_EQ(n.background[1].down_share, 0.2);
}

TEST(NetworkFile, SharesOfALinkAddUp) {
  const auto loads = [](const std::string& list) {
    return error_of("{\n\"background\": [\n" + list + "]}");
  };
  EXPECT_EQ(loads(R"({"host": 0, "up_share": 0.5}, {"host": 0, "up_share": 0.499})"), "no error");
  EXPECT_EQ(loads(R"({"host": 0, "up_share": 0.9}, {"host": 1, "up_share": 0.9})"), "no error");
  EXPECT_EQ(loads(R"({"host": 0, "up_share": 0.9}, {"host": 0, "down_share": 0.9})"), "no error");
  EXPECT_THAT(loads("{\"host\": 0, \"up_share\": 0.9},\n{\"host\": 0, \"up_share\": 0.9}"),
              HasSubstr("net.json, line 4, field /background/1/up_share: with the loads before "
                        "this one, others use 1.8 of host 0's link"));
  EXPECT_THAT(loads("{\"host\": 3, \"down_share\": 0.9},\n{\"down_share\": 0.1}"),
              HasSubstr("line 4, field /background/1/down_share"));
  EXPECT_THAT(loads("{\"up_share\": 0.5},\n{\"host\": 7, \"up_share\": 0.5}"),
              HasSubstr("line 4, field /background/1/up_share"));
}

TEST(NetworkFile, NamesOfFieldsMayHoldAnything) {
  EXPECT_THAT(error_of("{\n\"a/b\":1}"), HasSubstr("line 2, field /a~1b: there is no such"));
  EXPECT_THAT(error_of("{\n\n\"a~b\":1}"), HasSubstr("line 3, field /a~0b: there is no such"));
  EXPECT_THAT(error_of("{\"\\u0000\":1}"), HasSubstr("field /\\u0000: there is no such"));
  EXPECT_THAT(error_of("{\"x\\ny\":1}"), HasSubstr("field /x\\u000ay: there is no such"));
  EXPECT_THAT(error_of("{\"\\u007f\\u009b\":1}"), HasSubstr("field /\\u007f\\u009b: "));
  EXPECT_THAT(error_of("{\"\\u001b[2J\":1,\"\\u001b[2J\":1}"),
              HasSubstr("field /\\u001b[2J is given a second time"));
  EXPECT_THAT(error_of("{\"link\":\"\\u007f\"}"), HasSubstr("found string \"\\u007f\""));
  EXPECT_THAT(error_of("{\"\\u0000\":nul}"), HasSubstr("no JSON, at field /\\u0000: "));
}

TEST(NetworkFile, TheCommandLineSaysHowManyRanksAHost) {
  EXPECT_EQ(parse(R"({"ranks_per_host": 3})").ranks_on_hosts, (std::vector<std::int32_t>{3, 3, 2}));
  EXPECT_EQ(parse(R"({"ranks_per_host": 3})", 8, 4).ranks_on_hosts,
            (std::vector<std::int32_t>{4, 4}));
  EXPECT_EQ(parse(R"({"ranks_on_hosts": [1, 7]})", 8, 8).hosts(), 1);
  const auto map = host_map(parse(R"({"ranks_on_hosts": [1, 7]})"));
  EXPECT_EQ(map->hosts[1].front(), 1);
  EXPECT_EQ(map->host_of[7], 1);
}

// Every number in turn: of another type, below and above what it may be.
TEST(NetworkFile, EachFieldIsChecked) {
  struct Case {
    const char* object;
    const char* field;
    double above;
  };
  const Case cases[] = {{"link", "up_gbit_s", 1e7},
                        {"link", "down_gbit_s", 1e7},
                        {"link", "latency_us", 1e10},
                        {"link", "payload_share", 1.01},
                        {"link", "frame_bytes", 1e13},
                        {"link", "burst_bytes", 1e13},
                        {"link", "send_buffer_bytes", 1e13},
                        {"rack", "oversubscription", 1e7},
                        {"rack", "latency_us", 1e10},
                        {"core", "gbit_s", 1e10},
                        {"memory", "latency_us", 1e10},
                        {"memory", "message_us", 1e10},
                        {"memory", "copy_gbyte_s", 1e7},
                        {"memory", "host_gbyte_s", 1e7},
                        {"cpu", "send_us", 1e10},
                        {"cpu", "receive_us", 1e10},
                        {"cpu", "send_gbyte_s", 1e7},
                        {"cpu", "receive_gbyte_s", 1e7},
                        {"cpu", "reduce_gbyte_s", 1e7},
                        {"cpu", "copy_gbyte_s", 1e7},
                        {"cpu", "wake_us", 1e10},
                        {"cpu", "spin_us", 1e10}};
  for (const Case& c : cases) {
    const auto with = [&](const std::string& value) {
      return error_of("{\n\"" + std::string(c.object) + "\": {\n\n\"" + c.field + "\": " + value +
                      "\n}\n}\n");
    };
    const std::string where =
        std::string("net.json, line 4, field /") + c.object + "/" + c.field + ": ";
    EXPECT_THAT(with("\"fast\""), HasSubstr(where + "expected a number, found string \"fast\""));
    EXPECT_THAT(with("null"), HasSubstr(where + "expected a number, found null"));
    EXPECT_THAT(with("-1"), HasSubstr(where + "expected "));
    EXPECT_THAT(with(std::to_string(c.above)), HasSubstr(where + "expected "));
  }
  for (const char* field : {"cores_per_host", "cores_of_all_hosts"}) {
    for (const char* value : {"-1", "1.5", "5000", "true", "99999999999999999999"}) {
      EXPECT_THAT(error_of("{\"cpu\":\n{\"" + std::string(field) + "\": " + value + "}}"),
                  HasSubstr("line 2, field /cpu/" + std::string(field)))
          << value;
    }
  }
}

TEST(NetworkFile, DamagedFilesNameLineAndField) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "line 1: this is no JSON"},
      {"[]", "line 1, field /: expected an object, found array"},
      {"{\n\"link\": {\n  \"up_gbit\": 3\n}}",
       "line 3, field /link/up_gbit: there is no such field; here there are: burst_bytes"},
      {"{\"links\": {}}", "line 1, field /links: there is no such field"},
      {"{\n\n\"link\": 7}", "line 3, field /link: expected an object, found number 7"},
      {"{\"link\": {\n\"latency_us\": 3,\n\"latency_us\": 4}}",
       "line 3: field /link/latency_us is given a second time (first on line 2)"},
      {"{\"link\": {\n\"latency_us\": 3,,\n\"burst_bytes\": 4}}", "line 2: this is no JSON"},
      {"{\"link\": {\n\"latency_us\": 3", "line 2: this is no JSON, at field /link"},
      {"{\n\"stragglers\": [\n{\"rank\": 1},\n{\"rank\": 8}\n]}",
       "line 4, field /stragglers/1/rank: expected 0 to 7, found 8"},
      {"{\n\"stragglers\": [\n{\"delay_us\": 1}]}",
       "line 3, field /stragglers/0: a straggler is either"},
      {"{\"stragglers\": [{\"rank\": 1, \"host\": 1}]}", "field /stragglers/0: a straggler is"},
      {"{\"stragglers\": [{\"rank\": 1,\n\"link_slowdown\": 2}]}",
       "line 2, field /stragglers/0/link_slowdown: the link is the host's"},
      {"{\"stragglers\": {}}", "field /stragglers: expected a list, found object"},
      {"{\"background\": [{\"host\": 9, \"up_share\": 0.5}]}",
       "field /background/0/host: expected 0 to 7, found 9"},
      {"{\"background\": [\n{}]}", "line 2, field /background/0: give \"up_share\""},
      {"{\"background\": [{\"up_share\": 1}]}",
       "field /background/0/up_share: expected 0 to 0.999"},
      {"{\"ranks_on_hosts\": [4,\n5]}", "field /ranks_on_hosts: these are 9 ranks, but 8 were"},
      {"{\"ranks_on_hosts\": [4,\n-4]}", "line 2, field /ranks_on_hosts/1: expected 1 to"},
      {"{\"ranks_on_hosts\": [4,\n4\n,\"x\"]}",
       "line 3, field /ranks_on_hosts/2: expected a whole"},
      {"{\"ranks_on_hosts\": [8],\n\"ranks_per_host\": 8}", "line 2, field /ranks_per_host: give"},
      {"{\"ranks_per_host\": 0}", "field /ranks_per_host: expected 1 to"},
      {"{\"rack\": {\"oversubscription\": 2}}", "field /rack: give \"hosts\""},
      {"{\"rack\": {\"hosts\": 0}}", "field /rack/hosts: expected 1 to"},
      {"{\"link\": {\"latency_us\": 1e999}}", "line 1: this is no JSON, at field /link/latency_us"},
      {"{\"link\": {\"latency_us\": NaN}}", "this is no JSON"},
      {"{\"a\":[[[[[[[[[[[[1]]]]]]]]]]]]}", "is nested deeper than 8 levels"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_THAT(error_of(text), HasSubstr(expected)) << text;
    EXPECT_THAT(error_of(text), HasSubstr("net.json, line ")) << text;
  }
}

// Whatever is cut off or changed: an error or a network, never a crash.
TEST(NetworkFile, EveryDamageIsSurvived) {
  const std::string text = R"({"ranks_per_host": 2, "link": {"up_gbit_s": 1, "latency_us": 3},
    "stragglers": [{"rank": 1, "cpu_slowdown": 2}], "background": [{"host": 1, "up_share": 0.5}]})";
  for (std::size_t length = 0; length < text.size(); ++length) {
    EXPECT_NE(error_of(text.substr(0, length)), "no error") << length;
  }
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (const char c : {'{', '}', '[', ']', ',', '"', '9', '-', 'e', '\n', '\0', '\x80'}) {
      std::string damaged = text;
      damaged[at] = c;
      error_of(damaged);
    }
  }
  const std::string deep(200'000, '[');
  EXPECT_THAT(error_of(deep), HasSubstr("nested deeper"));
}

TEST(NetworkFile, FilesThatAreNotThereOrNoFiles) {
  EXPECT_THROW(read_network("/nonexistent/net.json", 2, 0), IoError);
  EXPECT_THROW(read_network("/", 2, 0), Error);
  const auto pipe = tests::scratch("net.pipe");  // nobody writes to it
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(read_network(pipe, 2, 0), IoError);
  std::remove(pipe.c_str());
}

TEST(NetworkFile, TheExamplesAreRight) {
  int found = 0;
  const std::filesystem::path folder = std::filesystem::path(WEFT_SOURCE_DIR) / "examples/networks";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    ++found;
    const Network network = read_network(entry.path().string(), 64, 0);
    EXPECT_EQ(network.ranks(), 64) << entry.path();
  }
  EXPECT_GE(found, 2);
}

}  // namespace
}  // namespace weft::comm::simulate
