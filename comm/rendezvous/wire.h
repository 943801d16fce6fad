// The frames of the store's protocol, after the handshake. Byte by byte: docs/protocol.md.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/rendezvous/store.h"

namespace weft::comm {

enum class FrameType : std::uint8_t {
  join = 1,   // client: pid, host; the first frame
  welcome,    // server: what the client must know, and the verdict if there is one
  refused,    // server: why not (code in the header), then it closes
  heartbeat,  // client: still here
  goodbye,    // client: leaves, which is no failure
  farewell,   // server: the goodbye was heard
  set,
  get,
  add,
  erase,
  exchange,
  report,  // client: a Failure; no reply
  reply,   // server: to the call of the same id
  news,    // server: the verdict
};

inline constexpr std::size_t kKeyBytesMax = 1024;
inline constexpr std::size_t kValueBytesMax = std::size_t{64} << 20;
inline constexpr std::size_t kBodyBytesMax = kValueBytesMax + (std::size_t{1} << 20);
inline constexpr std::size_t kJoinBytesMax = 512;
inline constexpr std::size_t kHostBytesMax = 255;
inline constexpr std::size_t kFailureTextBytesMax = std::size_t{32} << 10;
inline constexpr std::chrono::milliseconds kTimeoutMax = std::chrono::hours(24 * 365);

struct FrameHeader {
  static constexpr std::size_t kBytes = 16;
  std::uint32_t body_bytes = 0;
  FrameType type = FrameType::heartbeat;
  std::uint8_t code = 0;  // of replies and refusals: 0, or 1 + ErrorCode
  std::uint64_t id = 0;   // of calls and replies
};
std::array<std::uint8_t, FrameHeader::kBytes> encode(const FrameHeader& header);
// Corrupt: an unknown type, a non-zero reserved byte, an unknown code, a body above `body_max`.
FrameHeader decode_header(std::span<const std::uint8_t> bytes, std::size_t body_max);

using SharedBlob = std::shared_ptr<const Blob>;
struct Frame {
  FrameHeader header;
  SharedBlob body;  // null: empty
};
Frame make_frame(FrameType type, Blob body = {}, std::uint64_t id = 0, std::uint8_t code = 0);
Blob to_bytes(const Frame& frame);  // as it goes over the wire
std::uint8_t code_byte(ErrorCode code);

struct JoinBody {
  std::int64_t pid = 0;
  std::string host;
};
Blob encode(const JoinBody& join);
JoinBody decode_join(std::span<const std::uint8_t> body);

struct WelcomeBody {
  std::chrono::milliseconds heartbeat_timeout{0};
  std::optional<Failure> failure;
};
Blob encode(const WelcomeBody& welcome);
WelcomeBody decode_welcome(std::span<const std::uint8_t> body);

Blob encode(const Failure& failure);
Failure decode_failure(std::span<const std::uint8_t> body);

struct CallBody {  // set: value; get: timeout; add: delta; erase: the key alone
  std::string key;
  std::int64_t number = 0;  // timeout in milliseconds, or delta
  std::span<const std::uint8_t> value;
};
Blob encode_call(std::string_view key, std::int64_t number, std::span<const std::uint8_t> value);
CallBody decode_call(std::span<const std::uint8_t> body);

struct ExchangeBody {
  std::string key;
  std::int64_t timeout_ms = 0;
  std::vector<std::int32_t> participants;
  std::span<const std::uint8_t> mine;
};
Blob encode_exchange(std::string_view key, std::chrono::milliseconds timeout,
                     std::span<const std::int32_t> participants,
                     std::span<const std::uint8_t> mine);
ExchangeBody decode_exchange(std::span<const std::uint8_t> body);
std::vector<Blob> decode_exchanged(std::span<const std::uint8_t> body);

Blob encode_number(std::int64_t number);
std::int64_t decode_number(std::span<const std::uint8_t> body);

std::string this_host();  // the machine's name

}  // namespace weft::comm
