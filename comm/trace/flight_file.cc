#include "comm/trace/flight_file.h"

#include <limits>

#include "comm/trace/fields.h"
#include "comm/trace/log.h"
#include "comm/trace/names.h"
#include "kernels/base/regular_file.h"

namespace weft::comm::trace {

namespace {

constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kTime = std::int64_t{1} << 61;  // until 2043; differences fit
constexpr std::int64_t kRanksMax = 1 << 24;
constexpr std::size_t kBytesMax = std::size_t{256} << 20;

State parse_state(const Fields& fields) {
  const std::string text = fields.text("state");
  for (int code = 0; code < kStateCount; ++code) {
    if (text == state_name(static_cast<State>(code))) return static_cast<State>(code);
  }
  fail<Corrupt>("{}: \"state\": expected queued, running, complete or failed, found {}",
                fields.where(), json_text(text));
}

DumpedOperation parse_operation(const Fields& fields) {
  DumpedOperation operation;
  operation.serial = static_cast<std::uint64_t>(fields.number("serial", 1, kAny));
  operation.sequence = fields.number("sequence", 0, 0xffffffff);
  operation.kind = fields.text("kind");
  operation.state = parse_state(fields);
  const auto text = [&](const char* name) {
    return fields.has(name) ? fields.text(name) : std::string();
  };
  operation.dtype = text("dtype");
  operation.op = text("op");
  operation.algorithm = text("algorithm");
  if (fields.has("root")) operation.root = fields.number("root", -1, kRanksMax);
  if (fields.has("peer")) operation.peer = fields.number("peer", -1, kRanksMax);
  operation.count = fields.number("count", 0, kAny);
  operation.bytes = fields.number("bytes", 0, kAny);
  operation.start_ns = fields.number("start_ns", 0, kTime);
  if (!fields.any("end_ns").is_null()) operation.end_ns = fields.number("end_ns", 0, kTime);
  operation.steps_done = fields.number("steps_done", 0, 0xffffffff);
  operation.steps = fields.number("steps", 0, 0xffffffff);
  return operation;
}

DumpedCommunicator parse_communicator(const Fields& fields) {
  DumpedCommunicator communicator;
  communicator.name = fields.text("name");
  communicator.rank = static_cast<int>(fields.number("rank", 0, kRanksMax));
  communicator.world_size =
      static_cast<int>(fields.number("world_size", communicator.rank + 1, kRanksMax));
  if (!fields.any("failure").is_null()) communicator.failure = fields.text("failure");
  communicator.operations_begun =
      static_cast<std::uint64_t>(fields.number("operations_begun", 0, kAny));
  const nlohmann::json& operations = fields.array("operations");
  for (std::size_t k = 0; k < operations.size(); ++k) {
    communicator.operations.push_back(
        parse_operation({operations[k], fmt::format("{}, operation {}", fields.where(), k + 1)}));
  }
  return communicator;
}

}  // namespace

FlightDump read_flight_dump(const std::string& path) {
  std::string text;
  try {
    text = read_regular_file(path, path, kBytesMax);
  } catch (const InvalidArgument&) {
    fail<Corrupt>("{}: more than {} MiB: no dump of a flight recorder", path, kBytesMax >> 20);
  }
  const nlohmann::json json = parse_json(
      text, path, "give it a file flight.*.json that a rank wrote (WEFT_FLIGHT_RECORDER)");
  const Fields fields(json, path);
  fields.number("weft_flight_recorder", 1, 1);
  FlightDump dump;
  dump.path = path;
  dump.rank = static_cast<int>(fields.number("rank", 0, kRanksMax));
  dump.host = fields.text("host");
  dump.pid = fields.number("pid", 0, kAny);
  dump.job = fields.text("job");
  dump.reason = fields.object("reason").text("text");
  dump.by_signal = fields.object("reason").number("signal", 0, 128) != 0;
  dump.written_ns = fields.number("written_ns", 0, kTime);
  const nlohmann::json& communicators = fields.array("communicators");
  for (std::size_t k = 0; k < communicators.size(); ++k) {
    dump.communicators.push_back(
        parse_communicator({communicators[k], fmt::format("{}, communicator {}", path, k + 1)}));
  }
  return dump;
}

std::string DumpedOperation::name() const {
  std::string text = fmt::format("{} #{}", kind, sequence);
  if (is_message()) text += fmt::format(" {} rank {}", kind == "send" ? "to" : "from", peer);
  return text;
}

std::string DumpedOperation::call() const {
  std::string text = kind;
  if (kind != "barrier") text += fmt::format(", {} x {}", count, dtype.empty() ? "?" : dtype);
  if (!op.empty()) text += ", " + op;
  if (root >= 0) text += fmt::format(", root {}", root);
  return text;
}

}  // namespace weft::comm::trace
