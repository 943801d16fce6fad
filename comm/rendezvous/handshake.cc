#include "comm/rendezvous/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <exception>

#include "comm/rendezvous/bytes.h"
#include "comm/rendezvous/rank_names.h"
#include "kernels/base/check.h"
#include "kernels/base/error.h"

namespace weft::comm {
namespace {

using Bytes8 = std::vector<std::uint8_t>;
using View = std::span<const std::uint8_t>;
enum class FrameKind : std::uint8_t { hello = 1, challenge, proof, verdict };

constexpr std::array<std::uint8_t, 4> kMagic{'W', 'E', 'F', 'T'};
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kPrefixBytes = 8;  // magic, version, kind, length of the body
constexpr std::size_t kNonceBytes = 32;
constexpr std::size_t kMacBytes = 32;
constexpr std::size_t kJobIdBytes = 64;
constexpr std::size_t kReasonBytes = 220;

constexpr std::size_t body_bytes(FrameKind kind) {
  switch (kind) {
    case FrameKind::hello:
      return 32 + kJobIdBytes + kNonceBytes;
    case FrameKind::challenge:
      return kNonceBytes + kMacBytes;
    case FrameKind::proof:
      return kMacBytes;
    case FrameKind::verdict:
      break;
  }
  return 4 + kReasonBytes + kMacBytes;
}

Bytes8 frame(FrameKind kind, View body) {
  WEFT_ASSERT(body.size() == body_bytes(kind), "handshake frames have fixed sizes");
  ByteWriter out;
  out.bytes(kMagic);
  out.integer(kVersion);
  out.integer(static_cast<std::uint8_t>(kind));
  out.integer(static_cast<std::uint16_t>(body.size()));
  out.bytes(body);
  return out.take();
}

void check_prefix(View prefix, FrameKind expected) {
  if (!std::equal(kMagic.begin(), kMagic.end(), prefix.begin())) {
    fail<Corrupt>("what answers there does not speak weft's protocol");
  }
  if (prefix[4] != kVersion) {
    fail<Mismatch>(
        "the other end speaks version {} of weft's protocol, this build version {}: run the same "
        "build of weft on every host",
        prefix[4], kVersion);
  }
  const auto length = static_cast<std::size_t>(prefix[6] | prefix[7] << 8);
  if (prefix[5] != static_cast<std::uint8_t>(expected) || length != body_bytes(expected)) {
    fail<Corrupt>(
        "a handshake frame of kind {} and {} bytes came, where kind {} and {} bytes belong",
        prefix[5], length, static_cast<int>(expected), body_bytes(expected));
  }
}

// label | Hello | server nonce | rest. Every part but the last has a fixed size, so that no two
// different transcripts give the same bytes.
Bytes8 mac_of(const Secret& secret, std::string_view label, View hello, View nonce, View rest) {
  std::array<std::uint8_t, 16> padded{};
  std::copy(label.begin(), label.end(), padded.begin());
  ByteWriter transcript;
  transcript.bytes(padded);
  transcript.bytes(hello);
  transcript.bytes(nonce);
  transcript.bytes(rest);
  const Bytes8 input = transcript.take();
  Bytes8 mac(kMacBytes);
  unsigned int length = 0;
  if (HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), input.data(), input.size(),
           mac.data(), &length) == nullptr ||
      length != kMacBytes) {
    fail<Unsupported>("OpenSSL computes no HMAC-SHA256 here: check its providers and FIPS mode");
  }
  return mac;
}

bool same_mac(View a, View b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Bytes8 fresh_nonce() {
  Bytes8 nonce(kNonceBytes);
  if (RAND_bytes(nonce.data(), static_cast<int>(nonce.size())) != 1) {
    fail<IoError>("the system's random source gave nothing: no connection can be authenticated");
  }
  return nonce;
}

void check_job_id(const JobIdentity& job) {
  if (job.job_id.size() > kJobIdBytes) {
    fail<InvalidArgument>("the job id has {} bytes, at most {} are allowed: choose a shorter one",
                          job.job_id.size(), kJobIdBytes);
  }
}

Bytes8 verdict_frame(const Secret& secret, View hello, View nonce, std::uint8_t code,
                     std::string_view reason) {
  reason = reason.substr(0, kReasonBytes);
  ByteWriter body;
  body.integer(code);
  body.integer(static_cast<std::uint8_t>(reason.size()));
  body.integer(std::uint16_t{0});
  body.characters(reason);
  body.zeros(kReasonBytes - reason.size());
  Bytes8 bytes = body.take();
  const Bytes8 mac = mac_of(secret, "weft-1 verdict", hello, nonce, bytes);
  bytes.insert(bytes.end(), mac.begin(), mac.end());
  return frame(FrameKind::verdict, bytes);
}

void check_size(View bytes, std::size_t wanted) {
  if (bytes.size() != wanted) {
    fail<InvalidArgument>("a handshake was fed {} bytes, it wants exactly {}", bytes.size(),
                          wanted);
  }
}

}  // namespace

ClientHandshake::ClientHandshake(const JobIdentity& job, PeerIdentity self,
                                 std::int32_t server_rank, Channel channel)
    : job_(job), self_(self), server_rank_(server_rank), channel_(channel) {
  check_job_id(job);
}

std::vector<std::uint8_t> ClientHandshake::start() {
  WEFT_ASSERT(phase_ == Phase::start, "a handshake is started once");
  ByteWriter body;
  body.integer(static_cast<std::uint8_t>(channel_.kind));
  body.integer(static_cast<std::uint8_t>(job_.job_id.size()));
  body.integer(std::uint16_t{0});
  body.integer(job_.epoch);
  body.integer(self_.rank);
  body.integer(server_rank_);
  body.integer(self_.world_size);
  body.integer(channel_.lane);
  body.integer(channel_.communicator);
  body.characters(job_.job_id);
  body.zeros(kJobIdBytes - job_.job_id.size());
  body.bytes(fresh_nonce());
  hello_ = frame(FrameKind::hello, body.take());
  phase_ = Phase::challenge;
  return hello_;
}

std::size_t ClientHandshake::bytes_wanted() const {
  if (phase_ == Phase::done) return 0;
  if (!in_body_) return kPrefixBytes;
  return body_bytes(phase_ == Phase::challenge ? FrameKind::challenge : FrameKind::verdict);
}

std::vector<std::uint8_t> ClientHandshake::feed(std::span<const std::uint8_t> bytes) {
  try {
    return advance(bytes);
  } catch (...) {
    phase_ = Phase::failed;
    in_body_ = false;
    throw;
  }
}

std::vector<std::uint8_t> ClientHandshake::advance(std::span<const std::uint8_t> bytes) {
  if (phase_ != Phase::challenge && phase_ != Phase::verdict) {
    fail<Unauthorized>("this handshake was not started, is over, or has failed");
  }
  check_size(bytes, bytes_wanted());
  const bool challenge = phase_ == Phase::challenge;
  if (!in_body_) {
    check_prefix(bytes, challenge ? FrameKind::challenge : FrameKind::verdict);
    in_body_ = true;
    return {};
  }
  in_body_ = false;
  if (challenge) return on_challenge(bytes);
  on_verdict(bytes);
  return {};
}

std::vector<std::uint8_t> ClientHandshake::on_challenge(std::span<const std::uint8_t> body) {
  const View nonce = body.first(kNonceBytes);
  if (!same_mac(mac_of(job_.secret, "weft-1 server", hello_, nonce, {}),
                body.subspan(kNonceBytes))) {
    fail<Unauthorized>(
        "{} did not prove that it knows this job's secret: check that this process was given the "
        "secret of the same job, and that address and port belong to that job",
        name_of_rank(server_rank_));
  }
  server_nonce_.assign(nonce.begin(), nonce.end());
  phase_ = Phase::verdict;
  return frame(FrameKind::proof, mac_of(job_.secret, "weft-1 client", hello_, nonce, {}));
}

void ClientHandshake::on_verdict(std::span<const std::uint8_t> body) {
  const View said = body.first(body.size() - kMacBytes);
  if (!same_mac(mac_of(job_.secret, "weft-1 verdict", hello_, server_nonce_, said),
                body.last(kMacBytes))) {
    fail<Unauthorized>(
        "the answer of {} to our proof was altered on the way, or comes from someone else",
        name_of_rank(server_rank_));
  }
  const int code = said[0];
  if (code == 0) {
    phase_ = Phase::done;
    return;
  }
  if (code > kErrorCodeCount) fail<Corrupt>("refused for the unknown reason {}", code);
  const auto length = std::min<std::size_t>(said[1], kReasonBytes);
  throw_error(static_cast<ErrorCode>(code - 1),
              std::string(said.begin() + 4, said.begin() + 4 + static_cast<long>(length)));
}

ServerHandshake::ServerHandshake(const JobIdentity& job, PeerIdentity self, ChannelKind kind)
    : job_(job), self_(self), kind_(kind) {
  check_job_id(job);
}

std::size_t ServerHandshake::bytes_wanted() const {
  if (phase_ == Phase::done) return 0;
  if (!in_body_) return kPrefixBytes;
  return body_bytes(phase_ == Phase::hello ? FrameKind::hello : FrameKind::proof);
}

std::vector<std::uint8_t> ServerHandshake::feed(std::span<const std::uint8_t> bytes) {
  try {
    return advance(bytes);
  } catch (...) {
    phase_ = Phase::failed;
    in_body_ = false;
    throw;
  }
}

std::vector<std::uint8_t> ServerHandshake::advance(std::span<const std::uint8_t> bytes) {
  if (phase_ != Phase::hello && phase_ != Phase::proof) {
    fail<Unauthorized>("this handshake is over or has failed");
  }
  check_size(bytes, bytes_wanted());
  const bool hello = phase_ == Phase::hello;
  if (!in_body_) {
    check_prefix(bytes, hello ? FrameKind::hello : FrameKind::proof);
    if (hello) hello_.assign(bytes.begin(), bytes.end());
    in_body_ = true;
    return {};
  }
  in_body_ = false;
  return hello ? on_hello(bytes) : on_proof(bytes);
}

std::vector<std::uint8_t> ServerHandshake::on_hello(std::span<const std::uint8_t> body) {
  ByteReader in(body);
  const auto kind = in.integer<std::uint8_t>();
  const auto job_id_bytes = in.integer<std::uint8_t>();
  const auto zero = in.integer<std::uint16_t>();
  if (kind > static_cast<std::uint8_t>(ChannelKind::data) || job_id_bytes > kJobIdBytes ||
      zero != 0) {
    fail<Corrupt>("a malformed Hello");
  }
  channel_.kind = static_cast<ChannelKind>(kind);
  peer_epoch_ = in.integer<std::uint32_t>();
  peer_.rank = in.integer<std::int32_t>();
  asked_for_ = in.integer<std::int32_t>();
  peer_.world_size = in.integer<std::int32_t>();
  channel_.lane = in.integer<std::int32_t>();
  channel_.communicator = in.integer<std::uint64_t>();
  const View id = in.bytes(kJobIdBytes);
  peer_job_.assign(id.begin(), id.begin() + job_id_bytes);
  hello_.insert(hello_.end(), body.begin(), body.end());
  server_nonce_ = fresh_nonce();
  phase_ = Phase::proof;
  ByteWriter challenge;
  challenge.bytes(server_nonce_);
  challenge.bytes(mac_of(job_.secret, "weft-1 server", hello_, server_nonce_, {}));
  return frame(FrameKind::challenge, challenge.take());
}

std::vector<std::uint8_t> ServerHandshake::on_proof(std::span<const std::uint8_t> body) {
  if (!same_mac(mac_of(job_.secret, "weft-1 client", hello_, server_nonce_, {}), body)) {
    fail<Unauthorized>("someone who does not know this job's secret tried to connect as {}",
                       name_of_rank(peer_.rank));
  }
  try {
    check_claims();
  } catch (const Error& error) {
    refusal_ =
        verdict_frame(job_.secret, hello_, server_nonce_,
                      static_cast<std::uint8_t>(1 + static_cast<int>(error.code())), error.what());
    throw;
  }
  phase_ = Phase::done;
  return verdict_frame(job_.secret, hello_, server_nonce_, 0, {});
}

void ServerHandshake::check_claims() {
  if (channel_.kind != kind_) {
    fail<Unauthorized>("{} asked for a {} connection on a port that serves {} connections",
                       name_of_rank(peer_.rank),
                       channel_.kind == ChannelKind::store ? "store" : "data",
                       kind_ == ChannelKind::store ? "store" : "data");
  }
  if (peer_job_ != job_.job_id) {
    fail<Unauthorized>("{} belongs to job '{}', this is job '{}': check address and port",
                       name_of_rank(peer_.rank), peer_job_, job_.job_id);
  }
  if (asked_for_ != self_.rank) {
    fail<Unauthorized>("{} looks for {}, this is {}: the address it was given is out of date",
                       name_of_rank(peer_.rank), name_of_rank(asked_for_),
                       name_of_rank(self_.rank));
  }
  if (peer_epoch_ != job_.epoch) {
    fail<Mismatch>("{} is of epoch {}, this is epoch {}: a process of an earlier start is left",
                   name_of_rank(peer_.rank), peer_epoch_, job_.epoch);
  }
  if (peer_.world_size != self_.world_size) {
    fail<Mismatch>("{} has world size {}, {} has {}: start every rank with the same world size",
                   name_of_rank(peer_.rank), peer_.world_size, name_of_rank(self_.rank),
                   self_.world_size);
  }
  const bool agent = kind_ == ChannelKind::store && peer_.rank < 0;
  if (agent ? peer_.rank < -self_.world_size : peer_.rank < 0 || peer_.rank >= self_.world_size) {
    fail<Mismatch>("{} is outside 0..{}, the ranks of a job of world size {}",
                   name_of_rank(peer_.rank), self_.world_size - 1, self_.world_size);
  }
}

}  // namespace weft::comm
