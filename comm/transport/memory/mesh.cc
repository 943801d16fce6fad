#include "comm/transport/memory/mesh.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>
#include <utility>
#include <vector>

#include "comm/transport/memory/link.h"
#include "kernels/base/check.h"

namespace weft::comm::memory {
namespace {

class MemoryMesh final : public Mesh {
 public:
  MemoryMesh(std::shared_ptr<const Group> group, int rank, int size, int lanes, std::string medium)
      : group_(std::move(group)), rank_(rank), size_(size), lanes_(lanes), medium_(medium) {
    links_.resize(static_cast<std::size_t>(size * (lanes + 1)));
    for (int member = 0; member < group_->size(); ++member) {
      if (member == group_->self()) continue;
      for (int lane = kPointToPointLane; lane < lanes; ++lane) {
        links_[index(group_->rank_of(member), lane)] =
            std::make_unique<MemoryLink>(*group_, member, lane, bytes_moved_);
      }
    }
  }
  ~MemoryMesh() override { sever(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int lanes() const override { return lanes_; }
  Link& link(int peer, int lane) override {
    WEFT_ASSERT(peer >= 0 && peer < size_ && lane >= kPointToPointLane && lane < lanes_ &&
                    links_[index(peer, lane)],
                "no such link");
    return *links_[index(peer, lane)];
  }
  const Group* memory() const override { return group_->size() == size_ ? group_.get() : nullptr; }

  void refresh() override {}
  void prepare_wait() override {
    Bell& bell = group_->area(group_->self()).bell;
    seen_ = bell.rings.load();
    bell.sleep.store(Sleep::on_futex);  // sequentially consistent, as the fence in notify()
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  void cancel_wait() override {
    group_->area(group_->self()).bell.sleep.store(Sleep::awake, std::memory_order_relaxed);
  }
  void wait(std::chrono::milliseconds timeout) override {
    Bell& bell = group_->area(group_->self()).bell;
    const timespec until{timeout.count() / 1000, timeout.count() % 1000 * 1'000'000};
    ::syscall(SYS_futex, &bell.rings, FUTEX_WAIT, seen_, &until, nullptr, 0);
    cancel_wait();
  }
  void wake() override { group_->ring(group_->self()); }

  void leave() override { depart(Presence::left); }
  void sever() override { depart(Presence::severed); }

  std::uint64_t bytes_moved() const override { return bytes_moved_; }
  std::string describe(int peer) const override {
    return fmt::format("rank {} ({})", peer, medium_);
  }

 private:
  std::size_t index(int peer, int lane) const {
    return static_cast<std::size_t>(peer * (lanes_ + 1) + lane + 1);
  }
  void depart(Presence how) {
    if (gone_) return;
    gone_ = true;
    group_->depart(how);
    for (auto& link : links_) {
      if (link) link->sever();
    }
  }

  std::shared_ptr<const Group> group_;
  int rank_;
  int size_;
  int lanes_;
  std::string medium_;
  bool gone_ = false;
  std::uint32_t seen_ = 0;
  std::uint64_t bytes_moved_ = 0;
  std::vector<std::unique_ptr<MemoryLink>> links_;
};

}  // namespace

std::unique_ptr<Mesh> make_mesh(std::shared_ptr<const Group> group, int rank, int size, int lanes,
                                std::string medium) {
  return std::make_unique<MemoryMesh>(std::move(group), rank, size, lanes, std::move(medium));
}

}  // namespace weft::comm::memory
