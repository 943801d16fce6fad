// JSON that people edit or other processes left behind: tuning and network files, flight dumps,
// timelines.
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "comm/planner.h"
#include "comm/select/tuning_file.h"
#include "comm/simulate/network.h"
#include "comm/trace/flight_file.h"
#include "comm/trace/merge.h"
#include "kernels/base/error.h"
#include "tests/fuzz/targets.h"
#include "tests/support/scratch.h"

namespace weft::fuzz {
namespace {

Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }
std::string text_of(std::span<const std::uint8_t> input) { return {input.begin(), input.end()}; }

// For readers that take paths.
class Scratch : public tests::ScratchDirectory {
 public:
  std::string file(const std::string& name, std::span<const std::uint8_t> input) const {
    const std::string path = *this / name;
    std::ofstream(path, std::ios::binary) << text_of(input);
    return path;
  }
};

const Scratch& scratch() {
  static const Scratch scratch;
  return scratch;
}

void tuning_files(std::span<const std::uint8_t> input) {
  const comm::Tuning tuning = comm::parse_tuning(text_of(input), "fuzz.json");
  comm::parse_tuning(comm::format_tuning(tuning), "again.json");  // what was taken can be written
}
std::vector<Bytes> tuning_seeds() {
  comm::Tuning tuning;
  tuning.host = "node7";
  tuning.date = "2024-01-02";
  tuning.cores = 8;
  tuning.ranks = 4;
  tuning.measured = {{comm::Medium::tcp,
                      comm::Collective::all_reduce,
                      4,
                      {{1024, "tree"}, {1 << 20, "halving_doubling"}, {1 << 30, "ring"}}},
                     {comm::Medium::memory, comm::Collective::broadcast, 2, {{4096, "tree"}}}};
  return {bytes_of(comm::format_tuning(tuning)),
          bytes_of(R"({"weft_tuning": 1, "tcp": {"latency_us": 3.5}, "tile_bytes": 65536})")};
}

void network_files(std::span<const std::uint8_t> input) {
  comm::simulate::parse_network(text_of(input), "fuzz.json", 8, 0);
}
std::vector<Bytes> network_seeds() {
  return {bytes_of(R"({"ranks_on_hosts": [4, 3, 1], "link": {"up_gbit_s": 1, "burst_bytes": 6},
 "rack": {"hosts": 2, "oversubscription": 8.5}, "core": {"gbit_s": 10}, "memory": {"message_us": 1},
 "cpu": {"send_us": 15, "wake_us": 21, "cores_per_host": 23, "cores_of_all_hosts": 24},
 "stragglers": [{"rank": 7, "cpu_slowdown": 2, "delay_us": 3}, {"host": 1, "link_slowdown": 4}],
 "background": [{"host": 2, "up_share": 0.1}, {"down_share": 0.2}]})"),
          bytes_of(R"({"ranks_per_host": 2, "link": {"latency_us": 1e-3}})")};
}

constexpr const char* kDump = R"({"weft_flight_recorder":1,"rank":0,"host":"a","pid":7,"job":"j",
"reason":{"signal":0,"text":"rank 1 is gone"},"written_ns":1700000000000000000,"communicators":[
{"name":"world","rank":0,"world_size":2,"failure":"rank 1 is gone","operations_begun":2,
"operations":[
{"serial":1,"sequence":1,"kind":"all_reduce","state":"complete","dtype":"f32","op":"sum",
"algorithm":"ring","count":10,"bytes":40,"start_ns":1699999999999999000,
"end_ns":1699999999999999500,
"steps_done":4,"steps":4},
{"serial":2,"sequence":2,"kind":"broadcast","state":"failed","dtype":"f32","algorithm":"tree",
"root":1,"count":10,"bytes":40,"start_ns":1699999999999999600,"end_ns":null,"steps_done":0,
"steps":1}]}]})";

void flight_dumps(std::span<const std::uint8_t> input) {
  using comm::trace::read_flight_dump;
  const auto mine = read_flight_dump(scratch().file("flight.0.1.json", input));
  auto other = read_flight_dump(scratch().file("flight.1.2.json", bytes_of(kDump)));
  other.rank = 1;
  for (auto& communicator : other.communicators) communicator.rank = 1;
  comm::trace::compare_flight_dumps({mine, other}, 8);
}
std::vector<Bytes> flight_dump_seeds() { return {bytes_of(kDump)}; }

constexpr const char* kTimeline =
    R"({"weft_timeline":{"version":1,"rank":1,"host":"a","pid":7,"job":"j","communicator":"world",)"
    R"("number":1,"communicator_rank":1,"world_size":2,"base_monotonic_ns":1000000,)"
    R"("base_epoch_ns":1700000000000000000,"clock_id":"c","clock":[{"at_ns":5,"offset_ns":-6,)"
    R"("uncertainty_ns":7}],"dropped":3},"displayTimeUnit":"ns","traceEvents":[)"
    "\n"
    R"j({"ph":"M","name":"process_name","pid":1,"args":{"name":"rank 1 (a)"}},)j"
    "\n"
    R"({"ph":"X","name":"send","cat":"message","pid":1,"tid":100,"ts":1.500,"dur":2.250,"args":)"
    R"({"op":"all_reduce #1","peer":0,"lane":0,"bytes":8,"sequence":1,"index":0,"cut":false}},)"
    "\n"
    R"({"ph":"b","name":"all_reduce #1","cat":"operation","id":"0x1f","pid":1,"tid":1,"ts":-1.0},)"
    "\n"
    R"({"ph":"e","name":"all_reduce #1","cat":"operation","id":"0x1f","pid":1,"tid":1,"ts":9.0})"
    "\n]}\n";

// All of `weft trace merge`.
void timelines(std::span<const std::uint8_t> input) {
  comm::trace::MergeOptions options;
  options.inputs = {scratch().file("timeline.1.7.1.json", input)};
  options.output = scratch().path() / "merged.json";
  comm::trace::merge_timelines(options);
}
std::vector<Bytes> timeline_seeds() { return {bytes_of(kTimeline)}; }

void wishes(std::span<const std::uint8_t> input) { comm::parse_wishes(text_of(input), "fuzz: "); }
std::vector<Bytes> wish_seeds() {
  return {bytes_of("ring"), bytes_of("all_reduce=ring,broadcast=tree"), bytes_of("tree,barrier=")};
}

constexpr Target kTargets[] = {
    {"tuning_files", "comm/select/tuning_file.cc", tuning_files, tuning_seeds},
    {"network_files", "comm/simulate/read_network.cc, json_lines.cc", network_files, network_seeds},
    {"flight_dumps", "comm/trace/flight_file.cc, compare.cc", flight_dumps, flight_dump_seeds},
    {"timelines", "comm/trace/timeline_reader.cc, merge.cc", timelines, timeline_seeds},
    {"wishes", "comm/planner.cc: algorithms by collective", wishes, wish_seeds},
};

}  // namespace

std::span<const Target> description_targets() { return kTargets; }

}  // namespace weft::fuzz
