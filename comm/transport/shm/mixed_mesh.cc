// Ranks of several hosts: those of this one over shared memory, the others over sockets.
#include <unistd.h>

#include <utility>

#include "comm/transport/memory/mesh.h"
#include "comm/transport/shm/host.h"

namespace weft::comm::shm {
namespace {

class MixedMesh final : public Mesh {
 public:
  MixedMesh(std::shared_ptr<Host> host, std::unique_ptr<Mesh> others)
      : host_(std::move(host)),
        others_(std::move(others)),
        near_(memory::make_mesh(host_->group(), others_->rank(), others_->size(), others_->lanes(),
                                "shared memory")),
        is_near_(static_cast<std::size_t>(others_->size())) {
    for (int member = 0; member < host_->group()->size(); ++member) {
      is_near_[static_cast<std::size_t>(host_->group()->rank_of(member))] = true;
    }
    others_->watch(host_->bell_fd());
  }

  int rank() const override { return others_->rank(); }
  int size() const override { return others_->size(); }
  int lanes() const override { return others_->lanes(); }
  Link& link(int peer, int lane) override { return of(peer).link(peer, lane); }

  void refresh() override { others_->refresh(); }
  // Sleeps in poll(): peers ring by writing to a pipe that is polled, too.
  void prepare_wait() override {
    bell().sleep.store(memory::Sleep::on_pipe);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  void cancel_wait() override {
    bell().sleep.store(memory::Sleep::awake, std::memory_order_relaxed);
  }
  void wait(std::chrono::milliseconds timeout) override {
    others_->wait(timeout);
    cancel_wait();
    char rings[64];
    while (::read(host_->bell_fd(), rings, sizeof rings) == static_cast<ssize_t>(sizeof rings)) {
    }
  }
  void wake() override { others_->wake(); }

  void leave() override {
    near_->leave();
    others_->leave();
  }
  void sever() override {
    near_->sever();
    others_->sever();
  }
  std::uint64_t bytes_moved() const override {
    return near_->bytes_moved() + others_->bytes_moved();
  }
  std::string describe(int peer) const override {
    return (is_near_[static_cast<std::size_t>(peer)] ? near_ : others_)->describe(peer);
  }

 private:
  memory::Bell& bell() const {
    const auto& group = *host_->group();
    return group.area(group.self()).bell;
  }
  Mesh& of(int peer) { return *(is_near_[static_cast<std::size_t>(peer)] ? near_ : others_); }

  std::shared_ptr<Host> host_;
  std::unique_ptr<Mesh> others_;
  std::unique_ptr<Mesh> near_;
  std::vector<bool> is_near_;
};

}  // namespace

std::unique_ptr<Mesh> make_mixed_mesh(std::shared_ptr<Host> host, std::unique_ptr<Mesh> others) {
  return std::make_unique<MixedMesh>(std::move(host), std::move(others));
}

}  // namespace weft::comm::shm
