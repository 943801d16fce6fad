#include "comm/trace/dump.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "comm/trace/clock.h"
#include "comm/trace/log.h"
#include "comm/trace/names.h"
#include "comm/trace/safe_writer.h"

namespace weft::comm::trace {

namespace {

constexpr std::size_t kPathMax = 4096;
constexpr std::int64_t kPatienceNs = 2'000'000'000;

// One dump at a time, which owns these.
std::atomic<long> g_owner{0};  // thread id
char g_buffer[1 << 14];
char g_path[kPathMax];
char g_side_path[kPathMax];
std::atomic<bool> g_complained{false};

bool own() {
  const long self = ::syscall(SYS_gettid);
  const std::int64_t begin = raw_monotonic_ns();
  for (;;) {
    long nobody = 0;
    if (g_owner.compare_exchange_strong(nobody, self, std::memory_order_acquire)) return true;
    if (nobody == self || raw_monotonic_ns() - begin > kPatienceNs) return false;
    ::sched_yield();
  }
}

void disown() { g_owner.store(0, std::memory_order_release); }

void complain(const char* doing, const char* path, int error) {
  if (g_complained.exchange(true)) return;
  char line[kPathMax + 256];
  SafeText text(line, sizeof line);
  const char* name = ::strerrorname_np(error);
  text << "weft: the flight recorder cannot " << doing << " " << path << ": "
       << (name == nullptr ? "error" : name) << "; its dump is lost\n";
  [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, text.c_str(), text.view().size());
}

void name(SafeWriter& out, std::string_view key, std::string_view name, std::uint8_t code) {
  out << ",\"" << key << "\":\"" << name;
  if (name.empty()) out << key << "(" << int{code} << ")";
  out << "\"";
}

void write_operation(SafeWriter& out, const Operation& operation, const TickScale& scale) {
  const CallFields& call = operation.call;
  out << "{\"serial\":" << operation.serial << ",\"sequence\":" << call.sequence;
  name(out, "kind", collective_name(call.collective), call.collective);
  name(out, "state", state_name(operation.state), static_cast<std::uint8_t>(operation.state));
  if (has_elements(call.collective)) name(out, "dtype", dtype_name(call.dtype), call.dtype);
  if (is_reduction(call.collective)) name(out, "op", op_name(call.op), call.op);
  if (!is_message(call.collective)) {
    name(out, "algorithm", algorithm_name(call.algorithm), call.algorithm);
  }
  if (has_root(call.collective)) out << ",\"root\":" << call.root;
  if (is_message(call.collective)) out << ",\"peer\":" << call.root;
  out << ",\"count\":" << call.count << ",\"bytes\":" << call.bytes;
  out << ",\"start_ns\":" << scale.epoch_ns(operation.start) << ",\"end_ns\":";
  if (operation.end != 0) {
    out << scale.epoch_ns(operation.end);
  } else {
    out << "null";
  }
  out << ",\"steps_done\":" << operation.steps_done << ",\"steps\":" << call.steps << "}";
}

void write_log(SafeWriter& out, const Log& log, const TickScale& scale) {
  const Recorder& recorder = log.recorder();
  const std::uint64_t begun = recorder.begun();
  out << "{\"name\":" << log.communicator() << ",\"rank\":" << log.rank()
      << ",\"world_size\":" << log.world_size() << ",\"failure\":";
  const std::string* failure = log.failure();
  out << (failure == nullptr ? std::string_view("null") : *failure);
  out << ",\"operations_begun\":" << begun << ",\"operations\":[";
  const char* separator = "\n";
  for (std::uint64_t serial = Recorder::oldest(begun); serial <= begun; ++serial) {
    Operation operation;
    if (!recorder.read(serial, operation)) continue;
    out << separator;
    write_operation(out, operation, scale);
    separator = ",\n";
  }
  out << "]}";
}

void write_file(SafeWriter& out, int job_rank, const Log& first, const Reason& reason,
                LogReader& logs) {
  const TickScale scale;
  const std::int64_t now = scale.epoch_ns(scale.now().at);
  out << "{\"weft_flight_recorder\":1,\n\"rank\":" << job_rank << ",\"host\":" << first.host()
      << ",\"pid\":" << int{::getpid()} << ",\"thread\":" << std::int64_t{::syscall(SYS_gettid)}
      << ",\"job\":" << first.job() << ",\n\"reason\":{\"kind\":\"" << reason.kind
      << "\",\"text\":" << reason.text << ",\"signal\":" << reason.signal
      << "},\n\"written_ns\":" << now << ",\"clock\":{\"source\":\""
      << (kTicksAreTsc ? "tsc" : "monotonic")
      << "\",\"monotonic_ns\":" << scale.monotonic_ns(scale.now().at)
      << ",\"epoch_offset_ns\":" << scale.epoch_offset_ns() << "},\n\"communicators\":[\n";
  const char* separator = "";
  logs.rewind();
  while (const Log* log = logs.next()) {
    if (log->job_rank() != job_rank) continue;
    out << separator;
    write_log(out, *log, scale);
    separator = ",\n";
  }
  out << "\n]}\n";
}

// Of the rank whose first log this is.
void dump_rank(const Log& first, const Reason& reason) {
  const int job_rank = first.job_rank();
  SafeText path(g_path, sizeof g_path);
  path << first.directory() << "/flight." << std::int64_t{job_rank} << "."
       << std::int64_t{::getpid()} << ".json";
  SafeText side(g_side_path, sizeof g_side_path);
  side << path.view() << ".part";
  if (!side.fits()) return complain("write", first.directory().c_str(), ENAMETOOLONG);
  const int fd = ::open(side.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return complain("write", side.c_str(), errno);
  SafeWriter out(fd, g_buffer, sizeof g_buffer);
  LogReader logs;
  write_file(out, job_rank, first, reason, logs);
  const int error = out.flush();
  ::close(fd);
  if (error != 0) {
    ::unlink(side.c_str());
    return complain("write", side.c_str(), error);
  }
  if (::rename(side.c_str(), path.c_str()) != 0) complain("rename to", path.c_str(), errno);
}

}  // namespace

void dump(int job_rank, const Reason& reason) {
  const int saved = errno;
  if (own()) {
    LogReader logs;
    LogReader earlier;
    while (const Log* log = logs.next()) {
      if (job_rank >= 0 && log->job_rank() != job_rank) continue;
      earlier.rewind();  // each rank once, at its first log
      const Log* first = earlier.next();
      while (first != nullptr && first->job_rank() != log->job_rank()) first = earlier.next();
      if (first == log) dump_rank(*log, reason);
    }
    disown();
  }
  errno = saved;
}

}  // namespace weft::comm::trace
