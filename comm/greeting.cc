#include "comm/greeting.h"

#include <algorithm>
#include <utility>

#include "comm/rendezvous/handshake.h"

namespace weft::comm {

namespace {

class Caller final : public Greeting {
 public:
  Caller(const JobIdentity& job, PeerIdentity self, std::int32_t server, Channel channel)
      : handshake_(job, self, server, channel) {}
  std::vector<std::uint8_t> start() override { return handshake_.start(); }
  std::vector<std::uint8_t> feed(std::span<const std::uint8_t> bytes) override {
    return handshake_.feed(bytes);
  }
  std::size_t bytes_wanted() const override { return handshake_.bytes_wanted(); }
  int peer() const override { return -1; }
  int lane() const override { return 0; }
  std::vector<std::uint8_t> refusal() const override { return {}; }

 private:
  ClientHandshake handshake_;
};

class Answerer final : public Greeting {
 public:
  Answerer(const JobIdentity& job, PeerIdentity self, std::uint64_t communicator,
           const std::vector<int>& job_ranks)
      : handshake_(job, self, ChannelKind::data),
        communicator_(communicator),
        job_ranks_(job_ranks) {}
  std::vector<std::uint8_t> start() override { return {}; }
  std::vector<std::uint8_t> feed(std::span<const std::uint8_t> bytes) override {
    return handshake_.feed(bytes);
  }
  std::size_t bytes_wanted() const override { return handshake_.bytes_wanted(); }
  int peer() const override {
    if (handshake_.channel().communicator != communicator_) return -1;
    const auto it = std::find(job_ranks_.begin(), job_ranks_.end(), handshake_.peer().rank);
    return it == job_ranks_.end() ? -1 : static_cast<int>(it - job_ranks_.begin());
  }
  int lane() const override { return handshake_.channel().lane; }
  std::vector<std::uint8_t> refusal() const override { return handshake_.refusal(); }

 private:
  ServerHandshake handshake_;
  std::uint64_t communicator_;
  const std::vector<int>& job_ranks_;
};

class HandshakeGreeter final : public Greeter {
 public:
  HandshakeGreeter(const JobIdentity& job, PeerIdentity self, std::uint64_t communicator,
                   std::vector<int> job_ranks)
      : job_(job), self_(self), communicator_(communicator), job_ranks_(std::move(job_ranks)) {}

  std::unique_ptr<Greeting> call(int peer, int lane) override {
    const Channel channel{ChannelKind::data, communicator_, lane};
    return std::make_unique<Caller>(job_, self_, job_ranks_[static_cast<std::size_t>(peer)],
                                    channel);
  }
  std::unique_ptr<Greeting> answer() override {
    return std::make_unique<Answerer>(job_, self_, communicator_, job_ranks_);
  }

 private:
  JobIdentity job_;
  PeerIdentity self_;
  std::uint64_t communicator_;
  std::vector<int> job_ranks_;
};

}  // namespace

std::unique_ptr<Greeter> make_greeter(const JobIdentity& job, PeerIdentity self,
                                      const std::string& name, std::vector<int> job_ranks) {
  std::uint64_t id = 0xcbf29ce484222325ull;  // FNV-1a: all ranks derive the same
  for (const char c : name) id = (id ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return std::make_unique<HandshakeGreeter>(job, self, id, std::move(job_ranks));
}

}  // namespace weft::comm
