#include "comm/trace/trace.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <set>
#include <system_error>
#include <utility>

#include "comm/trace/dump.h"
#include "kernels/base/error.h"

namespace weft::comm::trace {

namespace {

// "" if files can be made in `directory`, which is made if it is not there.
std::string trouble_with(const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return error.message();
  if (!std::filesystem::is_directory(directory, error)) return "not a directory";
  if (::access(directory.c_str(), W_OK | X_OK) != 0) {
    return std::error_code(errno, std::generic_category()).message();
  }
  return {};
}

// Each thing once a process.
void warn_once(const std::string& text) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.insert(text).second) spdlog::warn("{}", text);
}

bool usable(const std::string& directory, const char* what, const char* variable, bool speaks) {
  const std::string trouble = trouble_with(directory);
  if (trouble.empty()) return true;
  if (speaks) {
    warn_once(
        fmt::format("{}: cannot write into {}: {}; going on without it. Choose another "
                    "directory with {}.",
                    what, directory, trouble, variable));
  }
  return false;
}

std::string text_of(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

Options Options::from_environment() {
  Options options;
  options.flight_recorder = text_of("WEFT_FLIGHT_RECORDER");
  options.timeline = text_of("WEFT_TIMELINE");
  const std::string events = text_of("WEFT_TIMELINE_EVENTS");
  if (events.empty()) return options;
  const char* end = events.data() + events.size();
  const auto [stop, error] = std::from_chars(events.data(), end, options.timeline_events);
  if (error != std::errc() || stop != end || options.timeline_events < 1 ||
      options.timeline_events > Timeline::kEventsMax) {
    fail<InvalidArgument>("WEFT_TIMELINE_EVENTS='{}': expected a whole number, 1 to {}", events,
                          Timeline::kEventsMax);
  }
  return options;
}

void Trace::open(const Identity& identity, const Options& options, std::vector<int> names) {
  speaks_ = options.speaks;
  records_ = options.flight_recorder != "off";
  if (records_ && !options.flight_recorder.empty() &&
      usable(options.flight_recorder, "flight recorder", "WEFT_FLIGHT_RECORDER", speaks_)) {
    log_ = std::make_unique<Log>(recorder_, identity, options.flight_recorder);
    enlist(*log_);
    install_signal_handlers();
  }
  if (options.timeline.empty()) return;
  if (!records_) {
    fail<InvalidArgument>(
        "WEFT_TIMELINE needs the flight recorder: WEFT_FLIGHT_RECORDER must not "
        "be off");
  }
  if (usable(options.timeline, "timeline", "WEFT_TIMELINE", speaks_)) {
    timeline_ = std::make_unique<Timeline>(identity, options.timeline, options.timeline_events,
                                           std::move(names));
  }
}

void Trace::failed(const std::string& reason) {
  if (std::exchange(failed_, true)) return;
  if (log_) {
    log_->set_failure(reason);
    dump(log_->job_rank(), {"error", *log_->failure(), 0});
  }
  if (timeline_) write_timeline();
}

void Trace::close() {
  if (std::exchange(closed_, true)) return;
  if (log_) dismiss(*log_);
  if (timeline_) write_timeline();
}

void Trace::write_timeline() {
  try {
    timeline_->write();
  } catch (const std::exception& error) {
    warn_once(error.what());
  }
}

void Trace::add(Ticks since, Ticks until, EventKind kind, const Event& what) {
  Event event = what;
  event.kind = kind;
  event.begin = since;
  event.end = until;
  timeline_->push(event);
}

void Trace::add_work(Ticks since, EventKind kind, std::uint8_t collective, std::uint32_t sequence,
                     std::uint64_t bytes) {
  Event event;
  event.collective = collective;
  event.sequence = sequence;
  event.bytes = bytes;
  add(since, ticks(), kind, event);
}

void Trace::add_operation(Slot slot, EventKind kind, Ticks since) {
  Operation operation;
  if (!recorder_.read(slot.serial, operation)) return;  // 1,024 others have begun since
  Event event;
  event.kind = kind;
  event.cut = operation.state == State::failed;
  event.collective = operation.call.collective;
  event.dtype = operation.call.dtype;
  event.op = operation.call.op;
  event.algorithm = operation.call.algorithm;
  event.begin = since != 0 ? since : operation.start;
  event.end = kind == EventKind::call || operation.end == 0 ? ticks() : operation.end;
  event.serial = slot.serial;
  event.bytes = operation.call.bytes;
  event.sequence = operation.call.sequence;
  event.peer = operation.call.root;
  timeline_->push(event);
}

}  // namespace weft::comm::trace
