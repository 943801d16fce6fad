#include "comm/transport/shm/host.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "comm/transport/memory/mesh.h"
#include "kernels/base/system_error.h"

namespace weft::comm::shm {

namespace {

constexpr std::size_t kPopulatedMax =
    16;  // ranks of a host, of which each maps all others' scratch

std::uint64_t random_number() {
  std::uint64_t number = 0;
  std::size_t filled = 0;
  while (filled < sizeof number) {
    const ssize_t n =
        ::getrandom(reinterpret_cast<char*>(&number) + filled, sizeof number - filled, 0);
    if (n > 0) filled += static_cast<std::size_t>(n);
    if (n < 0 && errno != EINTR) fail<IoError>("getrandom: {}", std::strerror(errno));
  }
  return number;
}

// Takes all pages of a rank's scratch now, so that the first calls need not. Where the kernel does
// not know how, they do.
void populate(const Mapping& area, const memory::AreaLayout& layout) {
#ifdef MADV_POPULATE_WRITE
  (void)::madvise(area.get() + layout.scratch(), layout.scratch_bytes(), MADV_POPULATE_WRITE);
#else
  (void)area;
  (void)layout;
#endif
}

// Keeps alive what a mesh stands on.
class SharedMesh final : public Mesh {
 public:
  SharedMesh(std::shared_ptr<Host> host, std::unique_ptr<Mesh> mesh)
      : host_(std::move(host)), mesh_(std::move(mesh)) {}
  int rank() const override { return mesh_->rank(); }
  int size() const override { return mesh_->size(); }
  int lanes() const override { return mesh_->lanes(); }
  Link& link(int peer, int lane) override { return mesh_->link(peer, lane); }
  const memory::Group* memory() const override { return mesh_->memory(); }
  void refresh() override { mesh_->refresh(); }
  void prepare_wait() override { mesh_->prepare_wait(); }
  void cancel_wait() override { mesh_->cancel_wait(); }
  void wait(std::chrono::milliseconds timeout) override { mesh_->wait(timeout); }
  void wake() override { mesh_->wake(); }
  void leave() override { mesh_->leave(); }
  void sever() override { mesh_->sever(); }
  std::uint64_t bytes_moved() const override { return mesh_->bytes_moved(); }
  std::string describe(int peer) const override { return mesh_->describe(peer); }

 private:
  std::shared_ptr<Host> host_;
  std::unique_ptr<Mesh> mesh_;
};

}  // namespace

Host::Host(std::vector<int> ranks, int self, int lanes)
    : ranks_(std::move(ranks)),
      self_(self),
      layout_(static_cast<int>(ranks_.size()), lanes, memory::kScratchBytes, true),
      nonce_(random_number()),
      area_("weft-area", layout_.bytes(), false),
      segments_(std::make_shared<SegmentTable>(self)) {
  memory::make_area(area_.mapping().get(), layout_, nonce_);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    fail<IoError>("cannot make a pipe: {}", text_of_system_error(errno));
  }
  bell_read_ = FileDescriptor(ends[0]);
  bell_write_ = FileDescriptor(ends[1]);
}

Invitation Host::invitation() const {
  return {area_.handle(), {::getpid(), bell_write_.get()}, layout_.bytes(), nonce_};
}

void Host::accept(const std::vector<Invitation>& others) {
  std::vector<std::int64_t> pids;
  for (const Invitation& other : others) pids.push_back(other.area.pid);
  segments_->set_processes(std::move(pids));
  memory::GroupMembers members;
  members.self = self_;
  members.ranks = ranks_;
  for (std::size_t m = 0; m < others.size(); ++m) {
    const bool mine = static_cast<int>(m) == self_;
    const Invitation& theirs = others[m];
    if (theirs.bytes != layout_.bytes()) {
      fail<IoError>(
          "rank {}'s shared area has {} bytes, this rank's {}: are all ranks built from "
          "the same weft?",
          ranks_[m], theirs.bytes, layout_.bytes());
    }
    members.areas.push_back(mine ? area_.mapping() : map_segment(theirs.area, layout_.bytes()));
    const auto& header = *reinterpret_cast<memory::AreaHeader*>(members.areas.back().get());
    if (header.magic != memory::kAreaMagic || header.nonce != theirs.nonce) {
      fail<IoError>("what process {} offers as rank {}'s shared area is something else",
                    theirs.area.pid, ranks_[m]);
    }
    if (others.size() <= kPopulatedMax) populate(members.areas.back(), layout_);
    bells_.push_back(open_pipe(theirs.bell));
    members.pipes.push_back(bells_.back().get());
  }
  group_ = std::make_shared<memory::Group>(std::move(members), layout_, segments_);
}

std::unique_ptr<Mesh> make_mesh(std::shared_ptr<Host> host, int size, int lanes) {
  const auto group = host->group();
  auto mesh = memory::make_mesh(group, group->rank_of(group->self()), size, lanes, "shared memory");
  return std::make_unique<SharedMesh>(std::move(host), std::move(mesh));
}

}  // namespace weft::comm::shm
