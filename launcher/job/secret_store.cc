#include "launcher/job/secret_store.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "comm/rendezvous/handshake.h"
#include "kernels/base/error.h"
#include "launcher/job/launch_error.h"

namespace weft::launcher {

comm::Secret read_secret_file(const std::string& path) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) {
    refuse(
        kExitUsage,
        "--secret-file={}: {}. Make one with: (umask 077; weft secret > {}) and copy it to every "
        "node.",
        path, errno_text(errno), path);
  }
  struct stat status {};
  if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    refuse(kExitUsage, "--secret-file={}: it is not a regular file", path);
  }
  if ((status.st_mode & 07777 & ~static_cast<mode_t>(S_IRUSR | S_IWUSR)) != 0) {
    refuse(kExitUsage,
           "--secret-file={}: its mode is {:04o}, so that others may use the secret. chmod 600 {}",
           path, status.st_mode & 07777, path);
  }
  if (status.st_uid != geteuid()) {
    refuse(kExitUsage, "--secret-file={}: it belongs to another user (uid {})", path,
           status.st_uid);
  }
  std::array<char, 256> text{};
  const ssize_t size = read(file.get(), text.data(), text.size());
  try {
    const auto secret = comm::parse_secret(
        std::string_view(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0));
    OPENSSL_cleanse(text.data(), text.size());
    return secret;
  } catch (const Error&) {
    refuse(kExitUsage,
           "--secret-file={}: expected 64 hexadecimal digits, as `weft secret` prints them", path);
  }
}

FileDescriptor secret_in_memory(const comm::Secret& secret) {
  const FileDescriptor low(memfd_create("weft-secret", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!low) fail<IoError>("cannot keep the job's secret in memory: {}", errno_text(errno));
  std::string text = comm::format_secret(secret);
  const bool written =
      ::write(low.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  OPENSSL_cleanse(text.data(), text.size());
  if (!written || fchmod(low.get(), S_IRUSR) != 0 ||
      fcntl(low.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) !=
          0) {
    fail<IoError>("cannot keep the job's secret in memory: {}", errno_text(errno));
  }
  return duplicate_high(low.get());
}

}  // namespace weft::launcher
