#include "comm/trace/merge_output.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "kernels/base/error.h"

namespace weft::comm::trace {

namespace {

std::string microseconds(std::int64_t ns) {
  const std::int64_t size = std::abs(ns);
  return fmt::format("{}{}.{:03}", ns < 0 ? "-" : "", size / 1000, size % 1000);
}

// A device or a pipe must be written itself: renamed over, it would be gone.
std::string side_path_of(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  const bool special = std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
  return special ? path : path + ".part";
}

}  // namespace

MergeOutput::MergeOutput(std::string path, std::int64_t base_ns)
    : path_(std::move(path)),
      side_path_(side_path_of(path_)),
      base_ns_(base_ns),
      file_(std::fopen(side_path_.c_str(), "we")) {
  if (!file_) fail<IoError>("{}: cannot create it: {}", side_path_, std::strerror(errno));
}

MergeOutput::~MergeOutput() {
  if (file_ && side_path_ != path_) std::remove(side_path_.c_str());
}

MergeOutput::Message MergeOutput::message_of(const TimelineHead& head, const TimelineEvent& event) {
  const auto next = static_cast<int>(communicators_.size());
  const int communicator = communicators_.emplace(head.identity.communicator, next).first->second;
  const bool sends = event.name == "send";
  const int self = head.identity.job_rank;
  return {communicator,
          sends ? self : event.peer,
          sends ? event.peer : self,
          event.lane,
          event.sequence,
          event.index};
}

void MergeOutput::learn(const TimelineHead& head, const TimelineEvent& event) {
  if (!event.is_message || event.cut) return;
  const bool sends = event.name == "send";
  std::uint64_t& ends = sends_[message_of(head, event)];
  ends |= sends ? 1u : 2u;
}

void MergeOutput::put(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size()) {
    fail<IoError>("{}: cannot write it: {}", side_path_, std::strerror(errno));
  }
}

void MergeOutput::begin(const std::string& about) {
  // Both ends are there: those get a number.
  for (auto& [message, ends] : sends_) ends = ends == 3 ? ++arrows_ : 0;
  put("{" + about + ",\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n");
}

void MergeOutput::line(const std::string& text) {
  if (!std::exchange(first_, false)) put(",\n");
  put(text);
  ++events_;
}

void MergeOutput::add(const TimelineHead& head, const ClockMap& clock, int process,
                      const TimelineEvent& event) {
  std::string rest;
  if (!event.arguments.empty()) rest = ",\"args\":" + event.arguments;
  if (event.phase == 'M') {
    line(fmt::format(R"({{"ph":"M","name":{},"pid":{},"tid":{}{}}})", json_text(event.name),
                     process, event.thread, rest));
    return;
  }
  const auto at = [&](std::int64_t since) {
    return clock.to_reference(head.base_monotonic_ns + since) - base_ns_;
  };
  const std::int64_t begin = at(event.at_ns);
  std::string text = fmt::format(R"({{"ph":"{}","name":{},"cat":{},"pid":{},"tid":{},"ts":{})",
                                 event.phase, json_text(event.name), json_text(event.category),
                                 process, event.thread, microseconds(begin));
  if (event.phase != 'X') {
    // Ids are those of a process; the file has one space of them.
    line(
        fmt::format(R"({},"id":"0x{:x}{:0>12}"{}}})", text, process + 1, event.id.substr(2), rest));
    return;
  }
  const std::int64_t length = std::max<std::int64_t>(at(event.at_ns + event.length_ns) - begin, 0);
  line(fmt::format(R"({},"dur":{}{}}})", text, microseconds(length), rest));
  if (event.is_message && !event.cut) add_arrow(head, process, event, begin, length);
}

// From the begin of the send to the end of the receive.
void MergeOutput::add_arrow(const TimelineHead& head, int process, const TimelineEvent& event,
                            std::int64_t begin_ns, std::int64_t length_ns) {
  const std::uint64_t arrow = sends_.at(message_of(head, event));
  if (arrow == 0) return;
  const bool sends = event.name == "send";
  const std::int64_t at = sends ? begin_ns : begin_ns + std::max<std::int64_t>(length_ns - 1, 0);
  line(fmt::format(
      R"({{"ph":"{}","name":"message","cat":"message","id":{},"pid":{},"tid":{},"ts":{}{}}})",
      sends ? 's' : 'f', arrow, process, event.thread, microseconds(at),
      sends ? "" : R"(,"bp":"e")"));
}

void MergeOutput::finish() {
  put("\n]}\n");
  const bool written = std::fflush(file_.get()) == 0;
  const int error = errno;
  const bool beside = side_path_ != path_;
  if (!written || (beside && std::rename(side_path_.c_str(), path_.c_str()) != 0)) {
    fail<IoError>("{}: cannot write it: {}", path_, std::strerror(written ? errno : error));
  }
  file_.reset();
}

}  // namespace weft::comm::trace
