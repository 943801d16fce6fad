#include "comm/transport/tcp/mesh.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "comm/transport/tcp/bulk.h"
#include "comm/transport/tcp/link.h"
#include "comm/transport/tcp/striped.h"
#include "kernels/base/check.h"
#include "kernels/base/system_error.h"

namespace weft::comm::tcp {

namespace {

// Up to here each link is asked by itself; beyond, one poll() says which are worth asking.
constexpr int kAskedOneByOne = 3;

class TcpMesh final : public Mesh {
 public:
  explicit TcpMesh(const Connections& connections)
      : rank_(connections.rank),
        size_(connections.size),
        lanes_(connections.lanes),
        names_(connections.names),
        wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    const int error = errno;  // of eventfd
    links_.resize(static_cast<std::size_t>(size_) * (static_cast<std::size_t>(lanes_) + 1));
    for (int peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      for (int lane = kPointToPointLane; lane < lanes_; ++lane) {
        links_[slot(peer, lane)] = make_link(connections, peer, lane);
      }
    }
    polled_.resize(own_.size() + bulk_.size() + 2);
    if (wake_ < 0) fail<IoError>("{}: eventfd: {}", describe(rank_), text_of_system_error(error));
  }
  ~TcpMesh() override {
    sever();
    if (wake_ >= 0) ::close(wake_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int lanes() const override { return lanes_; }
  Link& link(int peer, int lane) override {
    const std::size_t index = slot(peer, lane);
    WEFT_ASSERT(index < links_.size() && links_[index], "no such link");
    return *links_[index];
  }

  void refresh() override {
    int pending = 0;
    each_connection([&](auto& connection) {
      if (!connection.wants_read() && !connection.wants_write()) return;
      ++pending;
      connection.set_ready(true, true);
    });
    if (pending > kAskedOneByOne) ask(std::chrono::milliseconds(0), false);
  }

  void wait(std::chrono::milliseconds timeout) override { ask(timeout, true); }

  void wake() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(wake_, &one, sizeof one);
  }

  void watch(int fd) override { watched_ = fd; }

  void leave() override {
    // The own connections say goodbye, before a bulk one closes.
    bool busy = false;
    for (const TcpLink* link : own_) busy |= link->busy();
    for (const Bulk* bulk : bulk_) busy |= bulk->wants_read() || bulk->wants_write();
    if (busy) return sever();
    each_connection([](auto& connection) { connection.leave(); });
    forget();
  }
  void sever() override {
    each_connection([](auto& connection) { connection.sever(); });
    forget();
  }

  std::uint64_t bytes_moved() const override { return bytes_moved_; }
  std::string describe(int peer) const override { return names_[static_cast<std::size_t>(peer)]; }

 private:
  std::size_t slot(int peer, int lane) const {
    return static_cast<std::size_t>(peer * (lanes_ + 1) + lane + 1);
  }

  std::unique_ptr<Link> make_link(const Connections& connections, int peer, int lane) {
    const int channels = channels_of(lanes_, connections.connections);
    const std::string& name = names_[static_cast<std::size_t>(peer)];
    const auto socket_of = [&](int channel) {
      return connections.sockets[static_cast<std::size_t>(peer * (channels + 1) + channel + 1)];
    };
    if (socket_of(lane) < 0) return nullptr;  // a peer that is reached in another way
    auto own = std::make_unique<TcpLink>(peer, socket_of(lane), name, bytes_moved_);
    own_.push_back(own.get());
    const int bulk_count = lane == kPointToPointLane ? 0 : bulk_of(connections.connections);
    if (bulk_count == 0) return own;
    std::vector<std::unique_ptr<Bulk>> bulk;
    for (int k = 0; k < bulk_count; ++k) {
      const int channel = bulk_channel(lanes_, connections.connections, lane, k);
      bulk.push_back(std::make_unique<Bulk>(peer, socket_of(channel), name, bytes_moved_));
      bulk_.push_back(bulk.back().get());
    }
    return std::make_unique<StripedLink>(std::move(own), std::move(bulk));
  }

  template <class Body>
  void each_connection(Body&& body) {
    for (TcpLink* link : own_) body(*link);
    for (Bulk* bulk : bulk_) body(*bulk);
  }
  void forget() {
    own_.clear();
    bulk_.clear();
  }

  void ask(std::chrono::milliseconds timeout, bool notices_hangups) {
    std::size_t count = 0;
    each_connection([&](const auto& connection) {
      short events = 0;
      if (connection.wants_read()) events |= POLLIN;
      if (connection.wants_write()) events |= POLLOUT;
      if (notices_hangups && !connection.hangup_known()) events |= POLLRDHUP;
      polled_[count++] = {events == 0 ? -1 : connection.fd(), events, 0};
    });
    polled_[count] = {notices_hangups ? wake_ : -1, POLLIN, 0};
    polled_[count + 1] = {notices_hangups ? watched_ : -1, POLLIN, 0};
    if (::poll(polled_.data(), count + 2, static_cast<int>(timeout.count())) < 0) {
      // Interrupted: look everywhere.
      each_connection([](auto& connection) { connection.set_ready(true, true); });
      return;
    }
    constexpr short kBroken = POLLERR | POLLHUP | POLLRDHUP | POLLNVAL;
    std::size_t i = 0;
    each_connection([&](auto& connection) {
      const short found = polled_[i++].revents;
      const bool broken = (found & kBroken) != 0;
      connection.set_ready(broken || (found & POLLIN) != 0, broken || (found & POLLOUT) != 0);
      if (broken && notices_hangups && !connection.wants_read()) connection.look_at_hangup();
    });
    if (polled_[count].revents != 0) {
      std::uint64_t count_of_wakes = 0;
      [[maybe_unused]] const ssize_t n = ::read(wake_, &count_of_wakes, sizeof count_of_wakes);
    }
  }

  int rank_;
  int size_;
  int lanes_;
  std::vector<std::string> names_;
  int wake_;
  int watched_ = -1;
  std::uint64_t bytes_moved_ = 0;
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<TcpLink*> own_;
  std::vector<Bulk*> bulk_;
  std::vector<pollfd> polled_;
};

}  // namespace

std::unique_ptr<Mesh> make_mesh(const Connections& connections) {
  return std::make_unique<TcpMesh>(connections);
}

}  // namespace weft::comm::tcp
