#include "comm/trace/timeline_reader.h"

#include <cerrno>
#include <cstring>
#include <limits>

#include "comm/trace/fields.h"
#include "kernels/base/regular_file.h"

namespace weft::comm::trace {

namespace {

constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kTime = std::int64_t{1} << 60;       // ns: 36 years; sums of four fit
constexpr std::int64_t kEpochTime = std::int64_t{1} << 61;  // until 2043
constexpr std::int64_t kRanksMax = 1 << 24;
constexpr std::size_t kLineMax = 1 << 20;
constexpr const char* kRemedy = "give it a file timeline.*.json that a rank wrote (WEFT_TIMELINE)";

}  // namespace

TimelineReader::TimelineReader(const std::string& path) : path_(path) {
  expect_regular_file(path, path);
  in_.open(path);
  if (!in_) fail<IoError>("{}: cannot read it: {}", path_, std::strerror(errno));
  read_head();
}

// "" at the end of the file.
std::string TimelineReader::read_line() {
  std::string text;
  ++line_;
  using Traits = std::ifstream::traits_type;
  std::filebuf& bytes = *in_.rdbuf();
  for (auto c = bytes.sbumpc(); c != Traits::eof() && c != '\n'; c = bytes.sbumpc()) {
    text.push_back(Traits::to_char_type(c));
    if (text.size() > kLineMax) {
      fail<Corrupt>("{}, line {}: more than {} characters; {}", path_, line_, kLineMax, kRemedy);
    }
  }
  return text;
}

void TimelineReader::read_head() {
  const std::string where = fmt::format("{}, line 1", path_);
  const std::string text = read_line();
  constexpr std::string_view kBegin = "{\"weft_timeline\":";
  constexpr std::string_view kEnd = "\"traceEvents\":[";
  if (text.rfind(kBegin, 0) != 0 || !text.ends_with(kEnd)) {
    fail<Corrupt>("{}: not the head of a timeline; {}", where, kRemedy);
  }
  const nlohmann::json json = parse_json(text + "]}", where, kRemedy);
  const Fields head = Fields(json, where).object("weft_timeline");
  head.number("version", 1, 1);
  head_.identity.job_rank = static_cast<int>(head.number("rank", 0, kRanksMax));
  head_.identity.host = head.text("host");
  head_.identity.job = head.text("job");
  head_.identity.communicator = head.text("communicator");
  head_.identity.rank = static_cast<int>(head.number("communicator_rank", 0, kRanksMax));
  head_.identity.world_size = static_cast<int>(head.number("world_size", 1, kRanksMax));
  head_.pid = head.number("pid", 0, kAny);
  head_.number = static_cast<std::uint64_t>(head.number("number", 0, kAny));
  head_.base_monotonic_ns = head.number("base_monotonic_ns", -kTime, kTime);
  head_.base_epoch_ns = head.number("base_epoch_ns", 0, kEpochTime);
  head_.clock_id = head.text("clock_id");
  head_.dropped = static_cast<std::uint64_t>(head.number("dropped", 0, kAny));
  for (const nlohmann::json& element : head.array("clock")) {
    const Fields point(element, where + ", \"clock\"");
    head_.clock.push_back({point.number("at_ns", -kTime, kTime),
                           point.number("offset_ns", -kTime, kTime),
                           point.number("uncertainty_ns", 0, kTime)});
  }
}

bool TimelineReader::next(TimelineEvent& event) {
  if (over_) return false;
  std::string text = read_line();
  if (text == "]}") {
    if (!last_) fail<Corrupt>("{}, line {}: a line after a comma is missing", path_, line_);
    over_ = true;
    if (in_.rdbuf()->sgetc() != std::ifstream::traits_type::eof()) {
      fail<Corrupt>("{}, line {}: text after the end", path_, line_ + 1);
    }
    return false;
  }
  if (text.empty()) {
    fail<Corrupt>("{}, line {}: the file ends before its closing ]}}: it was cut off", path_,
                  line_);
  }
  if (last_) fail<Corrupt>("{}, line {}: expected ]}}, found another line", path_, line_);
  last_ = text.back() != ',';
  if (!last_) text.pop_back();
  parse(text, event);
  return true;
}

void TimelineReader::parse(const std::string& text, TimelineEvent& event) {
  const std::string where = fmt::format("{}, line {}", path_, line_);
  const nlohmann::json json = parse_json(text, where, kRemedy);
  const Fields fields(json, where);
  event = {};
  const std::string phase = fields.text("ph");
  if (phase != "X" && phase != "b" && phase != "e" && phase != "M") {
    fail<Corrupt>("{}: \"ph\": expected X, b, e or M, found {}", where, json_text(phase));
  }
  event.phase = phase[0];
  event.name = fields.text("name");
  event.process = fields.number("pid", 0, kAny);
  if (event.process != head_.identity.job_rank) {
    fail<Corrupt>("{}: \"pid\": expected {}, the file's rank, found {}", where,
                  head_.identity.job_rank, event.process);
  }
  if (fields.has("tid")) event.thread = fields.number("tid", 0, kAny);
  if (fields.has("args")) {
    event.arguments =
        fields.any("args").dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    fields.object("args");
  }
  if (event.phase == 'M') return;
  event.category = fields.text("cat");
  event.thread = fields.number("tid", 0, kAny);
  event.at_ns = fields.nanoseconds("ts", -1e12);
  if (event.phase != 'X') {
    event.id = fields.text("id");
    if (event.id.rfind("0x", 0) != 0 || event.id.size() > 18 ||
        event.id.find_first_not_of("0123456789abcdef", 2) != std::string::npos) {
      fail<Corrupt>("{}: \"id\": expected a hexadecimal number, found {}", where,
                    json_text(event.id));
    }
    return;
  }
  event.length_ns = fields.nanoseconds("dur", 0);
  if (event.category != "message") return;
  const Fields arguments = fields.object("args");
  event.is_message = true;
  event.peer = static_cast<int>(arguments.number("peer", 0, kRanksMax));
  event.lane = static_cast<int>(arguments.number("lane", -1, 127));
  event.sequence = arguments.number("sequence", 0, kAny);
  event.index = arguments.number("index", 0, kAny);
  event.cut = arguments.flag("cut");
}

}  // namespace weft::comm::trace
