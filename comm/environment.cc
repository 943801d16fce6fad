#include "comm/environment.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>

#include "comm/communicator.h"
#include "comm/planner.h"
#include "comm/rendezvous/handshake.h"
#include "comm/trace/trace.h"
#include "kernels/base/regular_file.h"

namespace weft::comm {

namespace {

std::string text_of(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? std::string() : std::string(value);
}

// The first of two that is set.
const char* pick(const char* ours, const char* theirs) {
  return text_of(ours).empty() ? theirs : ours;
}

std::int64_t number_of(const char* variable, std::int64_t least, std::int64_t most,
                       std::int64_t unset) {
  const std::string text = text_of(variable);
  if (text.empty()) return unset;
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < least || value > most) {
    fail<InvalidArgument>("{}='{}': expected a whole number, {} to {}", variable, text, least,
                          most);
  }
  return value;
}

// A file of at most a few hundred bytes, from its start, without moving the descriptor's position.
std::string contents_of(int fd, const char* variable) {
  char buffer[256];
  ssize_t n = -1;
  do {
    n = ::pread(fd, buffer, sizeof buffer, 0);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    fail<InvalidArgument>("{}: cannot read descriptor {}: {}; it must be open, and a file or memfd",
                          variable, fd, std::strerror(errno));
  }
  return {buffer, static_cast<std::size_t>(n)};
}

Secret parse(const std::string& text, const char* variable) {
  try {
    return parse_secret(text);
  } catch (const InvalidArgument& error) {
    fail<InvalidArgument>("{}: {}", variable, error.what());
  }
}

Secret secret_of_file(const std::string& path) {
  FileDescriptor file;
  try {
    file = open_regular_file(path, fmt::format("{}='{}'", env::kSecretFile, path));
  } catch (const IoError& error) {
    throw InvalidArgument(error.what());
  }
  struct stat status {};
  const bool known = ::fstat(file.get(), &status) == 0;
  if (known && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    fail<InvalidArgument>(
        "{}='{}': others may read this file (mode {:04o}); make it yours alone: chmod 600 {}",
        env::kSecretFile, path, status.st_mode & 07777u, path);
  }
  return parse(known ? contents_of(file.get(), env::kSecretFile) : "", env::kSecretFile);
}

std::vector<std::uint8_t> read_secret() {
  Secret secret{};
  if (!text_of(env::kSecretFd).empty()) {
    const auto fd = static_cast<int>(number_of(env::kSecretFd, 0, 1 << 20, 0));
    secret = parse(contents_of(fd, env::kSecretFd), env::kSecretFd);
  } else if (const std::string path = text_of(env::kSecretFile); !path.empty()) {
    secret = secret_of_file(path);
  } else {
    return {};
  }
  return {secret.begin(), secret.end()};
}

std::chrono::milliseconds time_of(const char* variable, std::chrono::milliseconds unset) {
  constexpr std::int64_t kMost = std::int64_t{1000} * 3600 * 24 * 365;
  return std::chrono::milliseconds(number_of(variable, 1, kMost, unset.count()));
}

}  // namespace

ConnectOptions ConnectOptions::from_environment() {
  constexpr std::int64_t kRanksMax = 1 << 20;
  ConnectOptions options;
  options.world_size = static_cast<int>(number_of(env::kWorldSize, 1, kRanksMax, 1));
  const char* rank = pick(env::kRank, env::kTorchRank);
  options.rank = static_cast<int>(number_of(rank, 0, options.world_size - 1, 0));
  if (options.world_size > 1 && text_of(rank).empty()) {
    fail<InvalidArgument>("{} is {}, but neither {} nor {} is set: which rank is this?",
                          env::kWorldSize, options.world_size, env::kRank, env::kTorchRank);
  }
  options.local_rank = static_cast<int>(number_of(env::kLocalRank, 0, kRanksMax, 0));
  const std::string host = text_of(pick(env::kStoreAddress, env::kMasterAddress));
  if (!host.empty()) options.store_host = host;
  options.store_port =
      static_cast<int>(number_of(pick(env::kStorePort, env::kMasterPort), 1, 65535, 0));
  options.secret = read_secret();
  options.job_id = text_of(env::kJobId);
  if (options.job_id.size() > 64) {
    fail<InvalidArgument>("{}: {} bytes long, expected 64 at most", env::kJobId,
                          options.job_id.size());
  }
  options.epoch = static_cast<std::uint32_t>(number_of(env::kEpoch, 0, 0xffffffff, 0));
  if (const std::string name = text_of(env::kTransport); !name.empty()) {
    const auto kind = parse_transport(name);
    if (!kind) {
      fail<InvalidArgument>("{}='{}': expected auto, shm, tcp or inproc", env::kTransport, name);
    }
    options.transport = *kind;
  }
  options.interface = text_of(env::kInterface);
  options.algorithm = text_of(env::kAlgorithm);
  parse_wishes(options.algorithm, env::kAlgorithm);
  options.tuning_file = text_of(env::kTuning);
  options.lanes = static_cast<int>(number_of(env::kLanes, 1, 16, options.lanes));
  options.connections = static_cast<int>(number_of(env::kConnections, 1, 16, options.connections));
  options.connect_timeout = time_of(env::kConnectTimeout, options.connect_timeout);
  options.operation_timeout = time_of(env::kOperationTimeout, options.operation_timeout);
  options.heartbeat = time_of(env::kHeartbeat, options.heartbeat);
  const trace::Options trace = trace::Options::from_environment();
  options.flight_recorder = trace.flight_recorder;
  options.timeline = trace.timeline;
  options.timeline_events = trace.timeline_events;
  return options;
}

}  // namespace weft::comm
