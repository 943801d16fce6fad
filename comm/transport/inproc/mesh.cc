#include "comm/transport/inproc/mesh.h"

#include <vector>

#include "comm/transport/inproc/link.h"
#include "kernels/base/check.h"

namespace weft::comm::inproc {
namespace {

class InprocMesh final : public Mesh {
 public:
  InprocMesh(std::shared_ptr<World> world, int rank) : world_(std::move(world)), rank_(rank) {
    for (int peer = 0; peer < world_->size(); ++peer) {
      for (int lane = kPointToPointLane; lane < world_->lanes(); ++lane) {
        links_.push_back(std::make_unique<InprocLink>(*world_, rank, peer, lane, bytes_moved_));
      }
    }
  }
  ~InprocMesh() override { sever(); }

  int rank() const override { return rank_; }
  int size() const override { return world_->size(); }
  int lanes() const override { return world_->lanes(); }
  Link& link(int peer, int lane) override {
    WEFT_ASSERT(peer >= 0 && peer < size() && lane >= kPointToPointLane && lane < lanes(),
                "no such link");
    return *links_[static_cast<std::size_t>(peer * (lanes() + 1) + lane + 1)];
  }

  void refresh() override {}
  void wait(std::chrono::milliseconds timeout) override {
    // Events that came before the last round cost one more round, then this sleeps.
    Mailbox& box = world_->mailbox(rank_);
    const std::uint64_t events = box.events.load();
    if (events == seen_) box.sleep(seen_, timeout);
    seen_ = events;
  }
  void wake() override { world_->mailbox(rank_).notify(); }

  void leave() override { depart(Presence::left); }
  void sever() override { depart(Presence::severed); }

  std::uint64_t bytes_moved() const override { return bytes_moved_; }
  std::string describe(int peer) const override { return fmt::format("thread of rank {}", peer); }

 private:
  void depart(Presence how) {
    if (gone_) return;
    gone_ = true;
    world_->set_presence(rank_, how);
    for (auto& link : links_) link->sever();
  }

  std::shared_ptr<World> world_;
  int rank_;
  bool gone_ = false;
  std::uint64_t seen_ = 0;
  std::uint64_t bytes_moved_ = 0;
  std::vector<std::unique_ptr<InprocLink>> links_;
};

}  // namespace

std::unique_ptr<Mesh> make_mesh(std::shared_ptr<World> world, int rank) {
  return std::make_unique<InprocMesh>(std::move(world), rank);
}

}  // namespace weft::comm::inproc
