// What can go wrong, as types. Every message names who (rank, host), which operation, what was
// expected, what was found, and what to do next; fail<E>() formats it with fmt.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace weft {

enum class ErrorCode {
  peer_lost,     // another rank died, stopped, or cannot be reached
  timeout,       // a bound on waiting ran out
  mismatch,      // ranks disagree about what they are doing together
  unauthorized,  // a handshake failed: wrong secret, job, epoch or rank
  corrupt,       // bytes are not what was written: checksum, truncation, malformed file or frame
  aborted,       // this communicator was aborted, or the operation was cancelled
  invalid_argument,  // the caller's mistake
  unsupported,       // a valid request that this build or machine cannot serve
  io,                // the operating system refused: disk full, permission, no such file
  not_finite,        // numbers overflowed, and nothing is left to try: training diverged
};
inline constexpr int kErrorCodeCount = static_cast<int>(ErrorCode::not_finite) + 1;

std::string_view name_of(ErrorCode code);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

template <ErrorCode kCode>
class TypedError : public Error {
 public:
  explicit TypedError(const std::string& message) : Error(kCode, message) {}
};

using PeerLost = TypedError<ErrorCode::peer_lost>;
using Timeout = TypedError<ErrorCode::timeout>;
using Mismatch = TypedError<ErrorCode::mismatch>;
using Unauthorized = TypedError<ErrorCode::unauthorized>;
using Corrupt = TypedError<ErrorCode::corrupt>;
using Aborted = TypedError<ErrorCode::aborted>;
using InvalidArgument = TypedError<ErrorCode::invalid_argument>;
using Unsupported = TypedError<ErrorCode::unsupported>;
using IoError = TypedError<ErrorCode::io>;
using NotFinite = TypedError<ErrorCode::not_finite>;

// fail<Timeout>("rank {} ...", rank): format and throw.
template <class E, class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw E(fmt::format(format, std::forward<Args>(args)...));
}

// Throws the typed error for a code that arrived as data (a verdict from the store, say).
[[noreturn]] void throw_error(ErrorCode code, const std::string& message);

}  // namespace weft
