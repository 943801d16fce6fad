#include "comm/simulate/timeline.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <tuple>

#include "kernels/base/error.h"

namespace weft::comm::simulate {

namespace {

const char* name_of(Timeline::Kind kind) {
  switch (kind) {
    case Timeline::Kind::send:
      return "send";
    case Timeline::Kind::receive:
      return "receive";
    case Timeline::Kind::reduce:
      return "reduce";
    case Timeline::Kind::copy:
      return "copy";
    case Timeline::Kind::transfer:
      return "transfer";
  }
  return "?";
}

// Text for a JSON string; names here hold nothing but printable ASCII otherwise.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out + '"';
}

class File {
 public:
  explicit File(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "wb")) {
    if (!file_) refuse();
  }
  void write(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size()) refuse();
  }
  void close() {
    if (std::fclose(file_.release()) != 0) refuse();
  }

 private:
  [[noreturn]] void refuse() const {
    fail<IoError>("cannot write the timeline {}: {}", path_, std::strerror(errno));
  }
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
};

std::string meta(const char* what, std::int32_t pid, int tid, const std::string& name) {
  return fmt::format(
      "{{\"ph\":\"M\",\"name\":\"{}\",\"pid\":{},\"tid\":{},\"args\":{{\"name\":{}}}}}", what, pid,
      tid, quoted(name));
}

}  // namespace

void Timeline::add(Kind kind, std::int32_t rank, std::int32_t peer, std::int32_t lane,
                   double start_us, double end_us, double bytes) {
  if (!keeps(rank) || end_us <= start_us) return;
  if (slices_.size() >= slices_max_) {
    truncated_ = true;
    return;
  }
  slices_.push_back({start_us, end_us, bytes, rank, peer, static_cast<std::int16_t>(lane), kind});
}

void Timeline::write(const std::string& path, const std::string& title) const {
  // Not 0: Perfetto takes thread 0 of a process for its first one, whose id is the process's, and
  // would show what the core does on the track of a link.
  constexpr int kCore = 1;
  File file(path);
  file.write(
      fmt::format("{{\"displayTimeUnit\":\"ns\",\"otherData\":{{\"title\":{},"
                  "\"truncated\":{}}},\n\"traceEvents\":[\n",
                  quoted(title), truncated_));
  // Thread ids of sending tracks, in the order in which they first send.
  std::map<std::tuple<std::int32_t, std::int32_t, std::int16_t>, int> tracks;
  std::map<std::int32_t, int> threads;  // by rank
  const char* separator = "";
  const auto event = [&](const std::string& text) {
    file.write(separator + text);
    separator = ",\n";
  };
  const auto name_rank = [&](std::int32_t rank) {
    if (!threads.try_emplace(rank, kCore).second) return;
    event(meta("process_name", rank, kCore, fmt::format("rank {}", rank)));
    event(meta("thread_name", rank, kCore, "core"));
  };
  for (const Slice& slice : slices_) {
    name_rank(slice.rank);
    int tid = kCore;
    if (slice.kind == Kind::transfer) {
      const auto [at, fresh] = tracks.try_emplace({slice.rank, slice.peer, slice.lane}, 0);
      if (fresh) {
        at->second = ++threads[slice.rank];
        event(meta("thread_name", slice.rank, at->second,
                   fmt::format("to rank {} lane {}", slice.peer, slice.lane)));
      }
      tid = at->second;
    }
    std::string args = fmt::format("\"bytes\":{:.0f}", slice.bytes);
    if (slice.peer >= 0) args += fmt::format(",\"peer\":{}", slice.peer);
    // Rounded to nanoseconds at both ends, so that neighbours on a track do not overlap.
    const auto start = std::llround(slice.start_us * 1e3);
    const auto length = std::llround(slice.end_us * 1e3) - start;
    event(
        fmt::format("{{\"ph\":\"X\",\"name\":\"{}\",\"pid\":{},\"tid\":{},\"ts\":{}.{:03},"
                    "\"dur\":{}.{:03},\"args\":{{{}}}}}",
                    name_of(slice.kind), slice.rank, tid, start / 1000, start % 1000, length / 1000,
                    length % 1000, args));
  }
  file.write("\n]}\n");
  file.close();
}

}  // namespace weft::comm::simulate
