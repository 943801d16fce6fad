#include "tensor/checkpoint/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>

#include "kernels/base/error.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kMark = ".weft-writing";

std::string host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof(name) - 1) != 0) return "unknown";
  std::string host(name);
  std::replace(host.begin(), host.end(), '.', '_');
  return host;
}

fs::path directory_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// ".weft-writing.HOST.PID.N": short enough for any file system, and tells whose it is.
std::string unique_name() {
  static std::atomic<std::uint64_t> count{0};
  return fmt::format("{}.{}.{}.{}", kMark, host_name(), ::getpid(), count.fetch_add(1));
}

[[noreturn]] void refuse_path(const fs::path& path, const char* what, int error) {
  fail<IoError>("{}: cannot {}: {}", path.string(), what, std::generic_category().message(error));
}

bool is_leftover(const std::string& name, const std::string& prefix) {
  if (name.compare(0, prefix.size(), prefix) != 0) return false;
  const auto pid = std::strtol(name.c_str() + prefix.size(), nullptr, 10);
  return pid > 0 && ::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH;
}

}  // namespace

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  if (!path_.has_filename()) fail<IoError>("'{}' names no file to write", path_.string());
  // A name left by a dead process of the same number may be in the way: go on to the next.
  for (int attempt = 0; attempt < 100 && fd_ < 0; ++attempt) {
    temporary_ = directory_of(path_) / unique_name();
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno != EEXIST) break;
  }
  if (fd_ < 0) refuse_path(path_, "create a file beside it", errno);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
  if (fd_ < 0) return;
  ::close(fd_);
  fd_ = -1;
  ::unlink(temporary_.c_str());
}

void AtomicFile::refuse(const char* what, int error) {
  discard();
  fail<IoError>("{}: cannot {}: {}. The file is as it was before", path_.string(), what,
                std::generic_category().message(error));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  constexpr std::size_t kMost = std::size_t{1} << 30;  // one call of write() takes below 2 GiB
  if (fd_ < 0) fail<IoError>("{}: it is already written or given up", path_.string());
  while (!bytes.empty()) {
    const auto written = ::write(fd_, bytes.data(), std::min(bytes.size(), kMost));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) refuse("write it", written < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  if (fd_ < 0) fail<IoError>("{}: it is already written or given up", path_.string());
  if (::fsync(fd_) != 0) refuse("bring it to the disk", errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) refuse("put it in its place", errno);
  ::close(fd_);
  fd_ = -1;
  sync_directory(directory_of(path_));
}

AtomicDirectory::AtomicDirectory(fs::path path) : path_(std::move(path)) {
  if (!path_.has_filename()) path_ = path_.parent_path();  // "out/" is "out"
  std::error_code error;
  for (int attempt = 0; attempt < 100; ++attempt) {
    temporary_ = directory_of(path_) / unique_name();
    if (fs::create_directory(temporary_, error)) return;
    if (error) break;
  }
  refuse_path(path_, "create a directory beside it", error ? error.value() : EEXIST);
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

void AtomicDirectory::commit() {
  sync_directory(temporary_);
  const auto parent = directory_of(path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    if (errno != ENOTEMPTY && errno != EEXIST) refuse_path(path_, "put it in its place", errno);
    // Both names change hands in one step; `temporary_` is then the old one, and goes.
    if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) != 0) {
      refuse_path(path_, "replace it (remove it by hand first)", errno);
    }
  }
  sync_directory(parent);
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
  temporary_.clear();
}

void remove_leftovers(const fs::path& directory) {
  const auto prefix = fmt::format("{}.{}.", kMark, host_name());
  std::error_code ignored;
  fs::directory_iterator it(directory, ignored);
  for (const fs::directory_iterator end; it != end && !ignored; it.increment(ignored)) {
    const auto path = it->path();
    std::error_code in_use;
    if (is_leftover(path.filename().string(), prefix)) fs::remove_all(path, in_use);
  }
}

bool remove_whole(const fs::path& directory) noexcept {
  std::error_code error;
  const auto doomed = directory_of(directory) / unique_name();
  fs::rename(directory, doomed, error);
  if (error) return false;
  fs::remove_all(doomed, error);
  return true;
}

void sync_directory(const fs::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) refuse_path(directory, "open the directory", errno);
  const int status = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  // Some network file systems cannot sync a directory, and say so with EINVAL.
  if (status != 0 && error != EINVAL)
    refuse_path(directory, "bring the directory to the disk", error);
}

}  // namespace weft::checkpoint
