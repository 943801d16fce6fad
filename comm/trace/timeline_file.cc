// A timeline as Chrome's trace event format, one event a line, so that files of any length can be
// merged line by line.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <tuple>

#include "comm/trace/names.h"
#include "comm/trace/track.h"
#include "kernels/base/error.h"

namespace weft::comm::trace {

namespace {

using Text = fmt::memory_buffer;

// Links get tracks of their own: at most one message is on a link in each direction, so slices
// there never overlap. The numbers are above those of threads.
constexpr std::int64_t kLinkTracks = 10'000'000;
constexpr std::int64_t kLinkTracksEach = 100'000;  // of one communicator

std::string call_text(const Event& event) {
  std::string text(collective_name(event.collective));
  if (text.empty()) text = fmt::format("collective({})", event.collective);
  return fmt::format("{} #{}", text, event.sequence);
}

const char* work_name(EventKind kind) {
  if (kind == EventKind::move) return "move";
  return kind == EventKind::reduce ? "reduce" : "copy";
}

// Microseconds with all digits of the nanoseconds.
std::string microseconds(std::int64_t ns) {
  const bool negative = ns < 0;
  const std::uint64_t size =
      negative ? ~static_cast<std::uint64_t>(ns) + 1 : static_cast<std::uint64_t>(ns);
  return fmt::format("{}{}.{:03}", negative ? "-" : "", size / 1000, size % 1000);
}

class Writer {
 public:
  Writer(const Identity& identity, std::uint64_t number, const std::vector<int>& names,
         const TickScale& scale, std::int64_t base_ns)
      : identity_(identity), number_(number), names_(names), scale_(scale), base_ns_(base_ns) {}

  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    if (!first_) out_.append(std::string_view(",\n"));
    first_ = false;
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
  }

  void add(const Event& event, long thread) {
    switch (event.kind) {
      case EventKind::operation:
        return add_operation(event);
      case EventKind::call:
        return slice(event, thread, call_text(event), "call", "");
      case EventKind::send:
      case EventKind::receive:
        return add_message(event);
      case EventKind::reduce:
      case EventKind::copy:
      case EventKind::move:
        return slice(
            event, thread, work_name(event.kind), "compute",
            fmt::format(R"(,"args":{{"bytes":{},"op":"{}"}})", event.bytes, call_text(event)));
      case EventKind::wait:
        return slice(event, thread, "wait", "wait", "");
      case EventKind::block:
        return slice(event, thread, "blocked", "wait", "");
    }
  }

  void name_tracks() {
    for (const auto& [key, track] : links_) {
      const auto [peer, lane, sends] = key;
      const std::string lane_text = lane < 0 ? "messages" : fmt::format("lane {}", lane);
      name_thread(track, fmt::format("{}: {} rank {}, {}", identity_.communicator,
                                     sends ? "send to" : "receive from", name_of(peer), lane_text));
    }
  }
  void name_thread(std::int64_t track, const std::string& name) {
    line(R"({{"ph":"M","name":"thread_name","pid":{},"tid":{},"args":{{"name":{}}}}})",
         identity_.job_rank, track, json_text(name));
    line(R"({{"ph":"M","name":"thread_sort_index","pid":{},"tid":{},"args":{{"sort_index":{}}}}})",
         identity_.job_rank, track, track < kLinkTracks ? 0 : track - kLinkTracks + 1);
  }

  std::string_view text() const { return {out_.data(), out_.size()}; }

 private:
  int name_of(int peer) const {
    const auto index = static_cast<std::size_t>(peer);
    return peer >= 0 && index < names_.size() ? names_[index] : peer;
  }
  std::int64_t since_base(Ticks at) const { return scale_.monotonic_ns(at) - base_ns_; }

  void slice(const Event& event, std::int64_t track, std::string_view name, const char* category,
             const std::string& rest) {
    const std::int64_t begin = since_base(event.begin);
    line(R"({{"ph":"X","name":"{}","cat":"{}","pid":{},"tid":{},"ts":{},"dur":{}{}}})", name,
         category, identity_.job_rank, track, microseconds(begin),
         microseconds(std::max<std::int64_t>(since_base(event.end) - begin, 0)), rest);
  }

  void add_message(const Event& event) {
    const bool sends = event.kind == EventKind::send;
    const auto key = std::make_tuple(event.peer, int{event.lane}, sends);
    const auto next = kLinkTracks + static_cast<std::int64_t>(number_) * kLinkTracksEach +
                      static_cast<std::int64_t>(links_.size());
    const std::int64_t track = links_.emplace(key, next).first->second;
    slice(event, track, sends ? "send" : "receive", "message",
          fmt::format(R"(,"args":{{"op":"{}","peer":{},"lane":{},"bytes":{},"sequence":{},)"
                      R"("index":{},"cut":{}}})",
                      call_text(event), name_of(event.peer), int{event.lane}, event.bytes,
                      event.sequence, event.index, event.cut));
  }

  void add_operation(const Event& event) {
    const std::uint64_t id = number_ << 32 | (event.serial & 0xffffffffu);
    std::string args = fmt::format(R"("communicator":{},"bytes":{},"failed":{})",
                                   json_text(identity_.communicator), event.bytes, event.cut);
    if (has_elements(event.collective)) {
      args += fmt::format(R"(,"dtype":"{}")", dtype_name(event.dtype));
    }
    if (is_reduction(event.collective)) args += fmt::format(R"(,"op":"{}")", op_name(event.op));
    if (is_message(event.collective)) {
      args += fmt::format(R"(,"peer":{})", event.peer);  // in the job, as the recorder has it
    } else {
      args += fmt::format(R"(,"algorithm":"{}")", algorithm_name(event.algorithm));
      if (has_root(event.collective)) args += fmt::format(R"(,"root":{})", event.peer);
    }
    const std::string name = call_text(event);
    const auto half = [&](char phase, Ticks at, const std::string& rest) {
      line(R"({{"ph":"{}","name":"{}","cat":"operation","id":"0x{:x}","pid":{},"tid":{},)"
           R"("ts":{}{}}})",
           phase, name, id, identity_.job_rank, identity_.job_rank, microseconds(since_base(at)),
           rest);
    };
    half('b', event.begin, ",\"args\":{" + args + "}");
    half('e', std::max(event.begin, event.end), "");
  }

  const Identity& identity_;
  std::uint64_t number_;
  const std::vector<int>& names_;
  const TickScale& scale_;
  std::int64_t base_ns_;
  Text out_;
  bool first_ = true;
  std::map<std::tuple<std::int32_t, int, bool>, std::int64_t> links_;
};

std::string clock_text(const std::vector<ClockPoint>& points) {
  std::string text;
  for (const ClockPoint& point : points) {
    text +=
        fmt::format(R"({}{{"at_ns":{},"offset_ns":{},"uncertainty_ns":{}}})",
                    text.empty() ? "" : ",", point.at_ns, point.offset_ns, point.uncertainty_ns);
  }
  return text;
}

}  // namespace

std::string Timeline::text() {
  const TickScale scale;
  const std::int64_t base_ns = scale.monotonic_ns(base_);
  const std::uint64_t lost = dropped();
  const std::lock_guard lock(mutex_);
  std::string text = fmt::format(
      R"({{"weft_timeline":{{"version":1,"rank":{},"host":{},"pid":{},"job":{},"communicator":{},)"
      R"("number":{},"communicator_rank":{},"world_size":{},"base_monotonic_ns":{},)"
      R"("base_epoch_ns":{},"clock_id":{},"clock":[{}],"dropped":{}}},)"
      R"("displayTimeUnit":"ns","traceEvents":[)",
      identity_.job_rank, json_text(identity_.host), ::getpid(), json_text(identity_.job),
      json_text(identity_.communicator), number_, identity_.rank, identity_.world_size, base_ns,
      base_ns + scale.epoch_offset_ns(), json_text(clock_id()), clock_text(clock_points_), lost);
  Writer writer(identity_, number_, names_, scale, base_ns);
  writer.line(R"({{"ph":"M","name":"process_name","pid":{},"args":{{"name":{}}}}})",
              identity_.job_rank,
              json_text(fmt::format("rank {} ({})", identity_.job_rank, identity_.host)));
  writer.line(R"({{"ph":"M","name":"process_sort_index","pid":{},"args":{{"sort_index":{}}}}})",
              identity_.job_rank, identity_.job_rank);
  for (const auto& track : tracks_) {
    writer.name_thread(track->thread, track->name);
    const std::size_t used = track->used.load(std::memory_order_acquire);
    for (std::size_t k = 0; k < used; ++k) writer.add(track->event(k), track->thread);
  }
  writer.name_tracks();
  text += "\n";
  text += writer.text();
  text += "\n]}\n";
  return text;
}

void Timeline::write() {
  const std::string contents = text();
  const std::string path =
      fmt::format("{}/timeline.{}.{}.{}.json", directory_, identity_.job_rank, ::getpid(), number_);
  const std::string side = path + ".part";
  const auto refuse = [&](const char* doing) {
    const int error = errno;
    ::unlink(side.c_str());
    fail<IoError>(
        "rank {} ({}): cannot {} the timeline {}: {}; free some space, or choose another "
        "directory (WEFT_TIMELINE)",
        identity_.job_rank, identity_.host, doing, path, std::strerror(error));
  };
  const int fd = ::open(side.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) refuse("create");
  std::size_t done = 0;
  while (done < contents.size()) {
    const ssize_t n = ::write(fd, contents.data() + done, contents.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      ::close(fd);
      errno = error;
      refuse("write");
    }
    done += static_cast<std::size_t>(n);
  }
  if (::close(fd) != 0 || ::rename(side.c_str(), path.c_str()) != 0) refuse("write");
}

}  // namespace weft::comm::trace
