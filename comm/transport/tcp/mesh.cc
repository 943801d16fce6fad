#include "comm/transport/tcp/mesh.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "comm/transport/tcp/link.h"
#include "kernels/base/check.h"

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
    const auto per_peer = static_cast<std::size_t>(lanes_) + 1;
    links_.resize(connections.sockets.size());
    for (std::size_t i = 0; i < links_.size(); ++i) {
      if (connections.sockets[i] < 0) continue;
      const auto peer = static_cast<int>(i / per_peer);
      links_[i] = std::make_unique<TcpLink>(peer, connections.sockets[i],
                                            names_[static_cast<std::size_t>(peer)], bytes_moved_);
      open_.push_back(links_[i].get());
    }
    polled_.resize(open_.size() + 2);
    if (wake_ < 0) fail<IoError>("eventfd: {}", std::strerror(errno));
  }
  ~TcpMesh() override {
    sever();
    if (wake_ >= 0) ::close(wake_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int lanes() const override { return lanes_; }
  Link& link(int peer, int lane) override {
    const auto index = static_cast<std::size_t>(peer * (lanes_ + 1) + lane + 1);
    WEFT_ASSERT(index < links_.size() && links_[index], "no such link");
    return *links_[index];
  }

  void refresh() override {
    int pending = 0;
    for (TcpLink* link : open_) {
      if (!link->wants_read() && !link->wants_write()) continue;
      ++pending;
      link->set_ready(true, true);
    }
    if (pending > kAskedOneByOne) ask(std::chrono::milliseconds(0), false);
  }

  void wait(std::chrono::milliseconds timeout) override { ask(timeout, true); }

  void wake() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(wake_, &one, sizeof one);
  }

  void watch(int fd) override { watched_ = fd; }

  void leave() override {
    for (TcpLink* link : open_) link->leave();
    open_.clear();
  }
  void sever() override {
    for (TcpLink* link : open_) link->sever();
    open_.clear();
  }

  std::uint64_t bytes_moved() const override { return bytes_moved_; }
  std::string describe(int peer) const override { return names_[static_cast<std::size_t>(peer)]; }

 private:
  void ask(std::chrono::milliseconds timeout, bool notices_hangups) {
    for (std::size_t i = 0; i < open_.size(); ++i) {
      const TcpLink& link = *open_[i];
      short events = 0;
      if (link.wants_read()) events |= POLLIN;
      if (link.wants_write()) events |= POLLOUT;
      if (notices_hangups && !link.hangup_known()) events |= POLLRDHUP;
      polled_[i] = {events == 0 ? -1 : link.fd(), events, 0};
    }
    polled_[open_.size()] = {notices_hangups ? wake_ : -1, POLLIN, 0};
    polled_[open_.size() + 1] = {notices_hangups ? watched_ : -1, POLLIN, 0};
    const auto count = static_cast<nfds_t>(open_.size() + 2);
    if (::poll(polled_.data(), count, static_cast<int>(timeout.count())) < 0) {
      for (TcpLink* link : open_) link->set_ready(true, true);  // interrupted: look everywhere
      return;
    }
    constexpr short kBroken = POLLERR | POLLHUP | POLLRDHUP | POLLNVAL;
    for (std::size_t i = 0; i < open_.size(); ++i) {
      const short found = polled_[i].revents;
      const bool broken = (found & kBroken) != 0;
      open_[i]->set_ready(broken || (found & POLLIN) != 0, broken || (found & POLLOUT) != 0);
      if (broken && notices_hangups && !open_[i]->wants_read()) open_[i]->look_at_hangup();
    }
    if (polled_[open_.size()].revents != 0) {
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
  std::vector<std::unique_ptr<TcpLink>> links_;
  std::vector<TcpLink*> open_;
  std::vector<pollfd> polled_;
};

}  // namespace

std::unique_ptr<Mesh> make_mesh(const Connections& connections) {
  return std::make_unique<TcpMesh>(connections);
}

}  // namespace weft::comm::tcp
