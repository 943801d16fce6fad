// Frames and segments between ranks, fed through real sockets to the links that read them.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "tests/fuzz/targets.h"
#include "tests/transport/link_pair.h"

namespace weft::fuzz {
namespace {

using namespace comm;       // NOLINT: tests
using namespace comm::tcp;  // NOLINT: tests

// Takes the input apart; zeros once it is used up.
class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> in) : in_(in) {}
  bool empty() const { return in_.empty(); }
  std::uint8_t byte() {
    if (in_.empty()) return 0;
    const std::uint8_t value = in_[0];
    in_ = in_.subspan(1);
    return value;
  }
  std::uint32_t number() {
    std::uint32_t value = 0;
    for (int k = 0; k < 4; ++k) value |= std::uint32_t{byte()} << (8 * k);
    return value;
  }
  std::span<const std::uint8_t> take(std::size_t count) {
    const auto taken = in_.first(std::min(count, in_.size()));
    in_ = in_.subspan(taken.size());
    return taken;
  }
  std::span<const std::uint8_t> rest() const { return in_; }

 private:
  std::span<const std::uint8_t> in_;
};

constexpr std::size_t kLengths[] = {0, 1, 100, 8192, 8193, 20'000};

FrameTag tag() {
  FrameTag tag;
  tag.sequence = 1;
  tag.count = 100;
  return tag;
}

// A receiver of one frame over 1 + `bulk` connections, and the other ends of these.
struct Receiver {
  std::vector<int> wire;
  std::unique_ptr<End> end;
  std::vector<std::byte> into;

  Receiver(int bulk, std::size_t bytes) : into(bytes) {
    std::vector<int> ours;
    for (int k = 0; k <= bulk; ++k) {
      const auto [one, other] = socket_pair();
      ours.push_back(one);
      wire.push_back(other);
    }
    end = std::make_unique<End>(ours);
  }
  ~Receiver() {
    for (const int fd : wire) ::close(fd);
  }
  // All of it; looks in between, so that it also comes in pieces.
  void feed(std::size_t k, const void* data, std::size_t bytes) {
    const auto* at = static_cast<const std::byte*>(data);
    while (bytes > 0) {
      const ssize_t n = ::send(wire[k], at, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n > 0) {
        at += n;
        bytes -= static_cast<std::size_t>(n);
      } else if (!look()) {
        return;  // nobody reads it: it would wait there
      }
    }
  }
  bool look() {
    end->refresh();
    const std::uint64_t before = end->moved;
    if (end->link->poll_recv() != nullptr) {
      end->link->finish_recv();
      start();
    }
    return end->moved != before;
  }
  void start() {
    end->link->start_recv(tag(), into.data(), weft::Bytes(static_cast<std::int64_t>(into.size())),
                          false);
  }
};

// byte 0: which length is awaited, byte 1: in how large pieces it comes; then the stream.
void frames(std::span<const std::uint8_t> input) {
  Reader reader(input);
  const std::size_t length = kLengths[reader.byte() % std::size(kLengths)];
  const std::size_t piece = 1 + std::size_t{reader.byte()} * 37;
  Receiver receiver(1, length);
  receiver.start();
  while (!reader.empty()) {
    const auto bytes = reader.take(piece);
    receiver.feed(0, bytes.data(), bytes.size());
    receiver.look();
  }
}

std::vector<Bytes> frame_seeds() {
  std::vector<Bytes> seeds;
  for (std::size_t k = 0; k < std::size(kLengths); ++k) {
    const auto payload = payload_of(kLengths[k]);
    const tcp::FrameHeader header =
        make_header(FrameKind::data, tag(), payload.data(), payload.size());
    Bytes seed{static_cast<std::uint8_t>(k), static_cast<std::uint8_t>(40 * k)};
    const auto* raw = reinterpret_cast<const std::uint8_t*>(&header);
    for (int twice = 0; twice < 2; ++twice) {
      seed.insert(seed.end(), raw, raw + sizeof header);
      const auto* data = reinterpret_cast<const std::uint8_t*>(payload.data());
      seed.insert(seed.end(), data, data + payload.size());
    }
    const tcp::FrameHeader goodbye = make_header(FrameKind::goodbye, FrameTag{}, nullptr, 0);
    raw = reinterpret_cast<const std::uint8_t*>(&goodbye);
    seed.insert(seed.end(), raw, raw + sizeof goodbye);
    seeds.push_back(std::move(seed));
  }
  return seeds;
}

// A stream of segments as it is, behind a sound announcement of 100,000 bytes.
void segments(std::span<const std::uint8_t> input) {
  Receiver receiver(2, 100'000);
  receiver.start();
  const tcp::FrameHeader announcement = make_announcement(tag(), receiver.into.size());
  receiver.feed(0, &announcement, sizeof announcement);
  Reader reader(input);
  const std::size_t piece = 1 + std::size_t{reader.byte()} * 37;
  while (!reader.empty()) {
    const auto bytes = reader.take(piece);
    receiver.feed(1, bytes.data(), bytes.size());
    receiver.look();
  }
}

std::vector<Bytes> segment_seeds() {
  const auto payload = payload_of(100'000);
  Bytes seed{200};
  for (std::size_t offset = 0; offset < payload.size(); offset += 32'768) {
    const std::size_t bytes = std::min<std::size_t>(32'768, payload.size() - offset);
    const SegmentHeader header = make_segment(0, offset, payload.data() + offset, bytes);
    const auto* raw = reinterpret_cast<const std::uint8_t*>(&header);
    seed.insert(seed.end(), raw, raw + sizeof header);
    const auto* data = reinterpret_cast<const std::uint8_t*>(payload.data() + offset);
    seed.insert(seed.end(), data, data + bytes);
  }
  return {seed, {1, 2, 3}, {}};
}

// Segments and frames whose checks hold, whatever they say: what a broken peer could send.
void sound_segments(std::span<const std::uint8_t> input) {
  const auto payload = payload_of(300'000);
  Receiver receiver(2, 100'000);
  receiver.start();
  Reader reader(input);
  while (!reader.empty()) {
    const std::uint8_t choice = reader.byte();
    if (choice % 8 == 0) {
      const tcp::FrameHeader header = choice % 16 == 0
                                          ? make_announcement(tag(), reader.number())
                                          : make_announcement(tag(), receiver.into.size());
      receiver.feed(0, &header, sizeof header);
    } else {
      const std::uint32_t frame = reader.byte() % 4u;
      // Pieces are multiples of 32 KiB: mostly those, with a little beside them now and then.
      const std::uint64_t offset =
          (choice & 16) != 0 ? reader.number() : std::uint64_t{reader.byte()} % 6 * 32'768;
      std::size_t bytes = (choice & 32) != 0 ? reader.number() % 200'000 : 32'768;
      if (offset == 98'304 && (choice & 32) == 0) bytes = 1696;
      SegmentHeader header = make_segment(frame, offset, payload.data(), bytes);
      const std::size_t k = 1 + choice / 64 % 2;
      receiver.feed(k, &header, sizeof header);
      receiver.feed(k, payload.data(), bytes);
    }
    receiver.look();
  }
}

std::vector<Bytes> sound_segment_seeds() {
  return {{8, 1, 0, 0, 1, 0, 1, 1, 0, 2, 1, 0, 3, 8, 1, 1, 0},
          {8, 65, 0, 3, 1, 0, 0, 65, 0, 1, 1, 0, 2, 8, 65, 1, 0, 1, 1, 1},
          {8, 49, 0, 0, 128, 0, 0, 0, 128, 0, 0}};
}

constexpr Target kTargets[] = {
    {"frames", "comm/transport/tcp/link.cc: data frames, goodbyes", frames, frame_seeds},
    {"segments", "comm/transport/tcp/bulk.cc: segments", segments, segment_seeds},
    {"sound_segments", "comm/transport/tcp/bulk.cc, striped.cc: what sound headers may claim",
     sound_segments, sound_segment_seeds},
};

}  // namespace

std::span<const Target> wire_targets() { return kTargets; }

}  // namespace weft::fuzz
