// Symmetric memory on devices: as comm/symmetric.cc has it for host memory, but that what others
// have mapped through IPC may be freed only once they have unmapped it.
#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "comm/cuda/agree.h"
#include "comm/cuda/cuda_impl.h"

namespace weft::comm {

namespace {

constexpr std::size_t kRetiredMax = 64;  // let go at one allocation

struct Offer {
  Complaint complaint;
  std::int64_t bytes = 0;
  cuda_ipc::Invitation invitation;
  std::uint32_t retired_count = 0;
  std::array<std::uint16_t, kRetiredMax> retired{};
};

std::vector<std::uint16_t> retired_by_all(const Offer& mine, const std::vector<Offer>& offers) {
  std::vector<std::uint16_t> numbers;
  for (std::uint32_t k = 0; k < mine.retired_count; ++k) {
    const bool by_all = std::all_of(offers.begin(), offers.end(), [&](const Offer& offer) {
      const auto* const end =
          offer.retired.data() + std::min<std::size_t>(offer.retired_count, kRetiredMax);
      return std::find(offer.retired.data(), end, mine.retired[k]) != end;
    });
    if (by_all) numbers.push_back(mine.retired[k]);
  }
  return numbers;
}

}  // namespace

SymmetricMemory CudaCommunicator::allocate_symmetric(Bytes bytes) {
  Communicator::Impl& base = impl_->base;
  if (bytes.value < 0) {
    fail<InvalidArgument>(
        "rank {}: allocate_symmetric on CUDA memory: {} bytes, expected 0 or more", base.rank,
        bytes.value);
  }
  // Members of an island that is not all ranks address its memory no more than anybody else's.
  cuda_ipc::Group* const group = impl_->staged ? nullptr : &impl_->island->group();
  const Bytes length(std::max<std::int64_t>(bytes.value, 1));
  Offer mine;
  mine.bytes = bytes.value;
  if (group != nullptr) {
    const auto retired = group->retired();
    mine.retired_count = static_cast<std::uint32_t>(std::min(retired.size(), kRetiredMax));
    std::copy_n(retired.begin(), mine.retired_count, mine.retired.begin());
  }
  std::optional<cuda_ipc::SharedMemory> memory;
  const char* const what = "allocate_symmetric on CUDA memory";
  const auto offers = agree(base, what, mine, [&](Offer& offer) {
    memory.emplace(impl_->device, length);
    if (group != nullptr && !group->in_one_process()) memory->offer_to_processes();
    offer.invitation = memory->invitation();
  });
  for (std::size_t r = 0; r < offers.size(); ++r) {
    if (offers[r].bytes == offers[0].bytes) continue;
    fail<InvalidArgument>(
        "{}: rank 0 asks for {} bytes, rank {} for {}; it must be the same on all ranks", what,
        offers[0].bytes, r, offers[r].bytes);
  }
  std::vector<cuda_ipc::Mapping> mappings;
  const auto gone = retired_by_all(mine, offers);
  agree(base, what, mine, [&](Offer&) {
    if (group == nullptr) return;
    for (const std::uint16_t number : gone) group->unmap_others(number);
    for (int m = 0; m < group->size(); ++m) {
      const auto& theirs = offers[static_cast<std::size_t>(group->rank_of(m))].invitation;
      mappings.push_back(m == group->self() ? memory->mapping()
                                            : cuda_ipc::map_memory(theirs, impl_->device));
    }
  });
  if (group == nullptr) return {memory->mapping(), bytes};
  if (!gone.empty()) {
    // Freeing waits for all kernels of the device, and those of threads that go on wait for this
    // rank's: nobody goes on before all have freed.
    for (const std::uint16_t number : gone) group->forget(number);
    agree(base, what, mine, [](Offer&) {});
  }
  const std::uint16_t number = group->add(std::move(mappings), bytes);
  cuda_ipc::Mapping own = memory->mapping();
  std::byte* const data = own.get();
  const std::weak_ptr<cuda_ipc::Group> alive = impl_->island->share_group();
  std::shared_ptr<std::byte> hold(data, [own, number, alive](std::byte*) mutable {
    if (const auto still = alive.lock()) still->retire(number);
    own.reset();
  });
  return {std::move(hold), bytes};
}

}  // namespace weft::comm
