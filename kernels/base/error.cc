#include "kernels/base/error.h"

namespace weft {

std::string_view name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::peer_lost:
      return "peer_lost";
    case ErrorCode::timeout:
      return "timeout";
    case ErrorCode::mismatch:
      return "mismatch";
    case ErrorCode::unauthorized:
      return "unauthorized";
    case ErrorCode::corrupt:
      return "corrupt";
    case ErrorCode::aborted:
      return "aborted";
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::io:
      return "io";
    case ErrorCode::not_finite:
      return "not_finite";
  }
  return "unknown";
}

void throw_error(ErrorCode code, const std::string& message) {
  switch (code) {
    case ErrorCode::peer_lost:
      throw PeerLost(message);
    case ErrorCode::timeout:
      throw Timeout(message);
    case ErrorCode::mismatch:
      throw Mismatch(message);
    case ErrorCode::unauthorized:
      throw Unauthorized(message);
    case ErrorCode::corrupt:
      throw Corrupt(message);
    case ErrorCode::aborted:
      throw Aborted(message);
    case ErrorCode::invalid_argument:
      throw InvalidArgument(message);
    case ErrorCode::unsupported:
      throw Unsupported(message);
    case ErrorCode::io:
      throw IoError(message);
    case ErrorCode::not_finite:
      throw NotFinite(message);
  }
  throw Error(code, message);  // a code from a newer peer
}

}  // namespace weft
