// The store's protocol, the handshake, and what ranks tell each other through the store.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "comm/introduction.h"
#include "comm/join_memory.h"
#include "comm/rendezvous/handshake.h"
#include "comm/rendezvous/wire.h"
#include "tests/fuzz/targets.h"

namespace weft::fuzz {
namespace {

using namespace comm;  // NOLINT: tests

Bytes behind(std::uint8_t choice, const Blob& body) {
  Bytes seed(1 + body.size(), choice);
  std::copy(body.begin(), body.end(), seed.begin() + 1);
  return seed;
}

void store_headers(std::span<const std::uint8_t> input) {
  if (input.size() < comm::FrameHeader::kBytes) return;
  decode_header(input.first(comm::FrameHeader::kBytes), kBodyBytesMax);
}
std::vector<Bytes> store_header_seeds() {
  std::vector<Bytes> seeds;
  for (const FrameType type : {FrameType::join, FrameType::reply, FrameType::news}) {
    seeds.push_back(to_bytes(make_frame(type, Blob(10), 7)));
  }
  return seeds;
}

// byte 0: which body, then the body.
void store_bodies(std::span<const std::uint8_t> input) {
  if (input.empty()) return;
  const auto body = input.subspan(1);
  switch (input[0] % 7) {
    case 0:
      decode_join(body);
      break;
    case 1:
      decode_welcome(body);
      break;
    case 2:
      comm::decode_failure(body);
      break;
    case 3:
      decode_call(body);
      break;
    case 4:
      decode_exchange(body);
      break;
    case 5:
      decode_exchanged(body);
      break;
    default:
      decode_number(body);
  }
}
std::vector<Bytes> store_body_seeds() {
  Failure failure;
  failure.rank = 3;
  failure.host = "somewhere";
  failure.what = "lost connection";
  failure.operation = "all_reduce #5";
  const Blob value{1, 2, 3, 4};
  const std::vector<std::int32_t> ranks{0, 1, 2};
  Blob exchanged{2, 0, 0, 0, 1, 0, 0, 0, 42, 2, 0, 0, 0, 1, 2};
  return {behind(0, encode(JoinBody{1234, "somewhere"})),
          behind(1, encode(WelcomeBody{std::chrono::milliseconds(3000), failure})),
          behind(2, encode(failure)),
          behind(3, encode_call("a key", 5, value)),
          behind(4, encode_exchange("a key", std::chrono::milliseconds(9), ranks, value)),
          behind(5, exchanged),
          behind(6, encode_number(-1))};
}

JobIdentity job() {
  JobIdentity job;
  job.job_id = "fuzz";
  job.secret.fill(7);
  return job;
}

// What a stranger says to a listening rank or store: fed in the sizes that it asks for.
void handshake_server(std::span<const std::uint8_t> input) {
  if (input.empty()) return;
  const bool store = input[0] % 2 == 0;
  ServerHandshake server(job(), PeerIdentity{store ? kStoreRank : 0, 4},
                         store ? ChannelKind::store : ChannelKind::data);
  input = input.subspan(1);
  while (server.bytes_wanted() > 0 && input.size() >= server.bytes_wanted()) {
    const std::size_t wanted = server.bytes_wanted();
    server.feed(input.first(wanted));
    input = input.subspan(wanted);
  }
  if (server.finished()) throw std::logic_error("a stranger got in");
}
std::vector<Bytes> handshake_server_seeds() {
  std::vector<Bytes> seeds;
  for (const bool store : {true, false}) {
    ClientHandshake client(job(), PeerIdentity{1, 4}, store ? kStoreRank : 0,
                           {store ? ChannelKind::store : ChannelKind::data, 5, 0});
    Bytes seed = behind(store ? 0 : 1, client.start());
    seed.resize(seed.size() + 40);
    seeds.push_back(std::move(seed));
  }
  return seeds;
}

void handshake_client(std::span<const std::uint8_t> input) {
  ClientHandshake client(job(), PeerIdentity{1, 4}, 0, {ChannelKind::data, 5, 0});
  client.start();
  while (client.bytes_wanted() > 0 && input.size() >= client.bytes_wanted()) {
    const std::size_t wanted = client.bytes_wanted();
    client.feed(input.first(wanted));
    input = input.subspan(wanted);
  }
}
std::vector<Bytes> handshake_client_seeds() {
  ClientHandshake client(job(), PeerIdentity{1, 4}, 0, {ChannelKind::data, 5, 0});
  ServerHandshake server(job(), PeerIdentity{0, 4}, ChannelKind::data);
  const Bytes hello = client.start();
  std::span<const std::uint8_t> left(hello);
  Bytes seed;
  while (!left.empty() && server.bytes_wanted() <= left.size()) {
    const std::size_t wanted = server.bytes_wanted();
    const Bytes said = server.feed(left.first(wanted));
    left = left.subspan(wanted);
    seed.insert(seed.end(), said.begin(), said.end());
  }
  seed.resize(seed.size() + 264);
  return {seed};
}

void introductions(std::span<const std::uint8_t> input) { decode_introduction(input); }
std::vector<Bytes> introduction_seeds() {
  Introduction mine;
  mine.member = {3, "somewhere", 1234};
  mine.endpoint = {"127.0.0.1", 4000};
  mine.locality.key = "abc";
  const std::string beyond = R"({"rank":1e46,"host":"a","pid":-1.5})";
  return {encode(mine), {beyond.begin(), beyond.end()}};
}

void memory_words(std::span<const std::uint8_t> input) { decode_memory_word(input); }
std::vector<Bytes> memory_word_seeds() {
  MemoryWord mine;
  mine.invitation = {{1234, 5}, {1234, 6}, 4096, 1ull << 63};
  const std::string beyond = R"({"pid":12,"area":59223372036854775808})";
  return {encode(mine),
          encode(MemoryWord{"no memory", {}}),
          encode(MemoryWord{}),
          {beyond.begin(), beyond.end()}};
}

void readiness(std::span<const std::uint8_t> input) { decode_readiness(input); }
std::vector<Bytes> readiness_seeds() {
  const std::string beyond = R"({"trouble":"t","code":1e46})";
  return {encode(Readiness{}),
          encode(Readiness{"a clock", "no descriptors", ErrorCode::io}),
          {beyond.begin(), beyond.end()}};
}

constexpr Target kTargets[] = {
    {"readiness", "comm/introduction.cc: what ranks say of their links", readiness,
     readiness_seeds},
    {"store_headers", "comm/rendezvous/wire.cc: headers of the store's frames", store_headers,
     store_header_seeds},
    {"store_bodies", "comm/rendezvous/wire.cc: their bodies", store_bodies, store_body_seeds},
    {"handshake_server", "comm/rendezvous/handshake.cc: what a caller says", handshake_server,
     handshake_server_seeds},
    {"handshake_client", "comm/rendezvous/handshake.cc: what a server answers", handshake_client,
     handshake_client_seeds},
    {"introductions", "comm/introduction.cc: JSON by which ranks meet", introductions,
     introduction_seeds},
    {"memory_words", "comm/join_memory.cc: JSON by which ranks of a host share memory",
     memory_words, memory_word_seeds},
};

}  // namespace

std::span<const Target> store_targets() { return kTargets; }

}  // namespace weft::fuzz
