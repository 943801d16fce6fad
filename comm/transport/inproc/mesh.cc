#include "comm/transport/inproc/mesh.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <numeric>

#include "comm/transport/memory/mesh.h"
#include "kernels/base/error.h"

namespace weft::comm::inproc {

namespace {

constexpr std::uint64_t kTheProcess = 1;  // the one segment there is: the address space

// Pointers mean the same to everybody. Linux gives user space 47 bits of addresses.
class WholeProcess final : public memory::AddressBook {
 public:
  memory::Posted post(const void* data, Bytes) const override {
    if (data == nullptr) return memory::kAbsent;
    return {kTheProcess << memory::kOffsetBits | reinterpret_cast<std::uint64_t>(data)};
  }
  std::byte* locate(int, memory::Posted where, Bytes) const override {
    if (where == memory::kAbsent || where == memory::kOrdinary) return nullptr;
    constexpr std::uint64_t kMask = (std::uint64_t{1} << memory::kOffsetBits) - 1;
    return reinterpret_cast<std::byte*>(where.value & kMask);
  }
  bool reaches_all() const override { return true; }
  std::chrono::milliseconds patience() const override { return std::chrono::milliseconds(0); }
};

// Zeroed pages that cost nothing until they are touched.
std::shared_ptr<std::byte> allocate(std::size_t bytes) {
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    fail<IoError>(
        "in_process: cannot map {} bytes for a rank ({}): use fewer ranks, or raise "
        "ulimit -v",
        bytes, std::strerror(errno));
  }
  return {static_cast<std::byte*>(memory), [bytes](std::byte* m) { ::munmap(m, bytes); }};
}

}  // namespace

World::World(int size, int lanes)
    : lanes_(lanes), layout_(size, lanes, memory::kScratchBytes, false) {
  for (int rank = 0; rank < size; ++rank) {
    areas_.push_back(allocate(layout_.bytes()));
    memory::make_area(areas_.back().get(), layout_, 0);
  }
}

std::unique_ptr<Mesh> make_mesh(const std::shared_ptr<World>& world, int rank) {
  memory::GroupMembers members;
  members.self = rank;
  members.ranks.resize(static_cast<std::size_t>(world->size()));
  std::iota(members.ranks.begin(), members.ranks.end(), 0);
  members.areas = world->areas();
  auto group = std::make_shared<memory::Group>(std::move(members), world->layout(),
                                               std::make_shared<WholeProcess>());
  return memory::make_mesh(std::move(group), rank, world->size(), world->lanes(),
                           "thread of this process");
}

}  // namespace weft::comm::inproc
