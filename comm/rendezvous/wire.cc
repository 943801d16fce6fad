#include "comm/rendezvous/wire.h"

#include <unistd.h>

#include <algorithm>

#include "comm/rendezvous/bytes.h"
#include "kernels/base/error.h"

namespace weft::comm {
namespace {

ErrorCode decode_code(std::uint8_t raw) {
  if (raw >= kErrorCodeCount) fail<Corrupt>("the unknown error code {}", raw);
  return static_cast<ErrorCode>(raw);
}

std::string key_in(ByteReader& in) {
  std::string key = in.text();
  if (key.empty() || key.size() > kKeyBytesMax) {
    fail<Corrupt>("a key of {} bytes (1 to {} are allowed)", key.size(), kKeyBytesMax);
  }
  return key;
}

}  // namespace

std::uint8_t code_byte(ErrorCode code) {
  return static_cast<std::uint8_t>(1 + static_cast<int>(code));
}

std::array<std::uint8_t, FrameHeader::kBytes> encode(const FrameHeader& header) {
  ByteWriter out;
  out.integer(header.body_bytes);
  out.integer(static_cast<std::uint8_t>(header.type));
  out.integer(header.code);
  out.integer(std::uint16_t{0});
  out.integer(header.id);
  std::array<std::uint8_t, FrameHeader::kBytes> bytes{};
  const Blob raw = out.take();
  std::copy(raw.begin(), raw.end(), bytes.begin());
  return bytes;
}

FrameHeader decode_header(std::span<const std::uint8_t> bytes, std::size_t body_max) {
  ByteReader in(bytes);
  FrameHeader header;
  header.body_bytes = in.integer<std::uint32_t>();
  const auto type = in.integer<std::uint8_t>();
  header.code = in.integer<std::uint8_t>();
  const auto reserved = in.integer<std::uint16_t>();
  header.id = in.integer<std::uint64_t>();
  if (type < static_cast<std::uint8_t>(FrameType::join) ||
      type > static_cast<std::uint8_t>(FrameType::news) || reserved != 0 ||
      header.code > kErrorCodeCount) {
    fail<Corrupt>("a malformed frame header (type {}, code {})", type, header.code);
  }
  if (header.body_bytes > body_max) {
    fail<Corrupt>("a frame of {} bytes, where at most {} are allowed", header.body_bytes, body_max);
  }
  header.type = static_cast<FrameType>(type);
  return header;
}

Frame make_frame(FrameType type, Blob body, std::uint64_t id, std::uint8_t code) {
  Frame frame;
  frame.header = {static_cast<std::uint32_t>(body.size()), type, code, id};
  if (!body.empty()) frame.body = std::make_shared<const Blob>(std::move(body));
  return frame;
}

Blob to_bytes(const Frame& frame) {
  ByteWriter out;
  out.bytes(encode(frame.header));
  if (frame.body) out.bytes(*frame.body);
  return out.take();
}

Blob encode(const JoinBody& join) {
  ByteWriter out;
  out.integer(join.pid);
  out.text(join.host, kHostBytesMax);
  return out.take();
}

JoinBody decode_join(std::span<const std::uint8_t> body) {
  ByteReader in(body);
  JoinBody join;
  join.pid = in.integer<std::int64_t>();
  join.host = in.text();
  in.expect_end();
  return join;
}

Blob encode(const WelcomeBody& welcome) {
  ByteWriter out;
  out.integer(static_cast<std::int64_t>(welcome.heartbeat_timeout.count()));
  if (welcome.failure) out.bytes(encode(*welcome.failure));
  return out.take();
}

WelcomeBody decode_welcome(std::span<const std::uint8_t> body) {
  ByteReader in(body);
  WelcomeBody welcome;
  welcome.heartbeat_timeout = std::chrono::milliseconds(in.integer<std::int64_t>());
  const auto rest = in.rest();
  if (!rest.empty()) welcome.failure = decode_failure(rest);
  return welcome;
}

Blob encode(const Failure& failure) {
  ByteWriter out;
  out.integer(static_cast<std::uint8_t>(failure.source));
  out.integer(static_cast<std::uint8_t>(failure.code));
  out.integer(failure.rank);
  out.integer(failure.pid);
  out.text(failure.host, kHostBytesMax);
  out.text(failure.what, kFailureTextBytesMax);
  out.text(failure.operation, kFailureTextBytesMax);
  return out.take();
}

Failure decode_failure(std::span<const std::uint8_t> body) {
  ByteReader in(body);
  Failure failure;
  const auto source = in.integer<std::uint8_t>();
  if (source > static_cast<std::uint8_t>(Failure::Source::peer)) {
    fail<Corrupt>("a failure from the unknown source {}", source);
  }
  failure.source = static_cast<Failure::Source>(source);
  failure.code = decode_code(in.integer<std::uint8_t>());
  failure.rank = in.integer<std::int32_t>();
  failure.pid = in.integer<std::int64_t>();
  failure.host = in.text();
  failure.what = in.text();
  failure.operation = in.text();
  in.expect_end();
  if (failure.host.size() > kHostBytesMax || failure.what.size() > kFailureTextBytesMax ||
      failure.operation.size() > kFailureTextBytesMax) {
    fail<Corrupt>("a failure with texts longer than {} bytes", kFailureTextBytesMax);
  }
  return failure;
}

Blob encode_call(std::string_view key, std::int64_t number, std::span<const std::uint8_t> value) {
  ByteWriter out;
  out.text(key, key.size());
  out.integer(number);
  out.bytes(value);
  return out.take();
}

CallBody decode_call(std::span<const std::uint8_t> body) {
  ByteReader in(body);
  CallBody call;
  call.key = key_in(in);
  call.number = in.integer<std::int64_t>();
  call.value = in.rest();
  if (call.value.size() > kValueBytesMax) fail<Corrupt>("a value of {} bytes", call.value.size());
  return call;
}

Blob encode_exchange(std::string_view key, std::chrono::milliseconds timeout,
                     std::span<const std::int32_t> participants,
                     std::span<const std::uint8_t> mine) {
  ByteWriter out;
  out.text(key, key.size());
  out.integer(static_cast<std::int64_t>(timeout.count()));
  out.integer(static_cast<std::uint32_t>(participants.size()));
  for (const std::int32_t rank : participants) out.integer(rank);
  out.bytes(mine);
  return out.take();
}

ExchangeBody decode_exchange(std::span<const std::uint8_t> body) {
  ByteReader in(body);
  ExchangeBody call;
  call.key = key_in(in);
  call.timeout_ms = in.integer<std::int64_t>();
  const auto count = in.integer<std::uint32_t>();
  ByteReader ranks(in.bytes(std::size_t{count} * 4));  // throws before anything is reserved
  call.participants.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    call.participants.push_back(ranks.integer<std::int32_t>());
  }
  call.mine = in.rest();
  return call;
}

std::vector<Blob> decode_exchanged(std::span<const std::uint8_t> body) {
  ByteReader in(body);
  const auto count = in.integer<std::uint32_t>();
  std::vector<Blob> blobs;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto blob = in.bytes(in.integer<std::uint32_t>());
    blobs.emplace_back(blob.begin(), blob.end());
  }
  in.expect_end();
  return blobs;
}

Blob encode_number(std::int64_t number) {
  ByteWriter out;
  out.integer(number);
  return out.take();
}

std::int64_t decode_number(std::span<const std::uint8_t> body) {
  ByteReader in(body);
  const auto number = in.integer<std::int64_t>();
  in.expect_end();
  return number;
}

std::string this_host() {
  std::array<char, kHostBytesMax + 1> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown host";
  return name.data();
}

}  // namespace weft::comm
