// How ranks come to do collectives on CUDA memory: who shares it with whom, and how the others
// talk.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "comm/cuda/agree.h"
#include "comm/cuda/cuda_impl.h"
#include "kernels/cuda/runtime.h"

namespace weft::comm {

namespace {

namespace cuda = kernels::cuda;

constexpr const char* kWhat = "collectives on CUDA memory";

struct Offer {
  Complaint complaint;
  std::int64_t pid = 0;
  std::int32_t device = 0;
  std::int32_t blocks = 0;  // of a collective kernel that the device runs at a time
  std::int32_t lanes = 0;   // wanted
  cuda_ipc::Invitation invitation;
};

// Throws what is wrong with the device.
int blocks_of(int device) {
  if (cuda::device_count() == 0) {
    fail<Unsupported>("there is no CUDA device: {}; use the communicator itself, on host memory",
                      cuda::reason_for_none());
  }
  (void)cuda::device_info(device);
  const cuda::DeviceGuard guard(device);
  int least = cuda::kLanesMax * cuda::kMembersMax;
  for (int t = 0; t < kDTypeCount; ++t) {
    least = std::min(least, cuda::collective_blocks_max(static_cast<DType>(t)));
  }
  return least;
}

// Lanes that all ranks can have at the same time. Threads of a process run theirs side by side;
// processes take turns on a device, each having all of it.
int lanes_for(const std::vector<Offer>& offers) {
  int lanes = cuda::kLanesMax;
  for (const Offer& offer : offers) {
    const auto neighbours = std::count_if(offers.begin(), offers.end(), [&](const Offer& other) {
      return other.pid == offer.pid && other.device == offer.device;
    });
    const int share = offer.blocks / static_cast<int>(neighbours);
    if (share == 0) {
      fail<InvalidArgument>(
          "{}: {} ranks share device {}, which runs only {} blocks of a collective at a time; use "
          "fewer threads on it, or more devices",
          kWhat, neighbours, offer.device, offer.blocks);
    }
    lanes = std::min(lanes, share);
    if (offer.lanes > 0) lanes = std::min(lanes, offer.lanes);
  }
  return lanes;
}

// The ranks of this host, ascending.
std::vector<int> neighbours_of(const Communicator::Impl& base) {
  std::vector<int> ranks;
  if (base.settings.hosts == nullptr) {
    ranks.resize(static_cast<std::size_t>(base.size));
    std::iota(ranks.begin(), ranks.end(), 0);
    return ranks;
  }
  const HostMap& map = *base.settings.hosts;
  const auto host = static_cast<std::size_t>(map.host_of[static_cast<std::size_t>(base.rank)]);
  ranks.assign(map.hosts[host].begin(), map.hosts[host].end());
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

const memory::Group* presence_of(const Communicator::Impl& base) {
  if (base.memory != nullptr) return base.memory;
  return base.host ? base.host->group().get() : nullptr;
}

// Why ranks of a host may not share device memory; the same on all ranks of it.
std::string obstacle(const Communicator::Impl& base, const std::vector<int>& ranks) {
  if (ranks.size() == 1) return {};
  if (presence_of(base) == nullptr) {
    return "the ranks of a host talk over TCP, and so know too little of each other";
  }
  if (ranks.size() > static_cast<std::size_t>(cuda::kMembersMax)) {
    return fmt::format("{} ranks are on one host, and at most {} share device memory", ranks.size(),
                       cuda::kMembersMax);
  }
  return {};
}

struct Joined {
  std::shared_ptr<cuda_ipc::Group> group;  // null: why_not says it
  std::string why_not;
};

// All ranks share device memory with the others of their host, or none does: where that is refused.
// Where memory is short all throw.
Joined share_memory(Communicator::Impl& base, int device, const std::vector<int>& ranks,
                    Offer mine) {
  Joined joined;
  const auto all_do = [&](const auto& deed) {
    auto offers = exchange(base, mine, deed);
    if (const int rank = first_complaint(offers); rank >= 0) {
      joined.group.reset();
      joined.why_not = fmt::format("rank {}: {}", base.supervisor->name_of(rank),
                                   offers[static_cast<std::size_t>(rank)].complaint.text.data());
      offers.clear();
    }
    return offers;
  };
  auto offers = all_do([&](Offer&) {
    if (const std::string why = obstacle(base, ranks); !why.empty()) fail<Unsupported>("{}", why);
  });
  if (offers.empty()) return joined;
  agree(base, kWhat, mine, [&](Offer&) {
    const bool exports = std::any_of(ranks.begin(), ranks.end(), [&](int rank) {
      const Member& member = base.supervisor->members()[static_cast<std::size_t>(rank)];
      return member.pid != ::getpid();
    });
    const auto self = std::find(ranks.begin(), ranks.end(), base.rank) - ranks.begin();
    joined.group =
        std::make_shared<cuda_ipc::Group>(device, static_cast<int>(self), ranks, exports);
  });
  offers = all_do([&](Offer& offer) { offer.invitation = joined.group->invite(); });
  if (offers.empty()) return joined;
  all_do([&](Offer&) {
    std::vector<cuda_ipc::Invitation> invitations;
    for (const int rank : ranks) {
      invitations.push_back(offers[static_cast<std::size_t>(rank)].invitation);
    }
    joined.group->accept(invitations);
  });
  return joined;
}

// Whether threads of this process, on the device, are other ranks.
bool shares_device(const Communicator::Impl& base, const std::vector<Offer>& offers) {
  const auto& members = base.supervisor->members();
  const auto self = static_cast<std::size_t>(base.rank);
  for (std::size_t r = 0; r < offers.size(); ++r) {
    if (r != self && offers[r].pid == offers[self].pid && offers[r].device == offers[self].device &&
        members[r].host == members[self].host) {
      return true;
    }
  }
  return false;
}

bool hosts_are_equal(const HostMap& map) {
  const HostSizes sizes = host_sizes(map);
  return sizes.smallest == sizes.largest && sizes.largest > 1;
}

}  // namespace

CudaCommunicator& Communicator::cuda(int device, int lanes) {
  Impl& base = *impl_;
  if (base.cuda) {
    if (base.cuda->device() == device) return *base.cuda;
    fail<InvalidArgument>(
        "rank {}: cuda({}): this communicator is of device {} already; a communicator of another "
        "device is made by split()",
        base.rank, device, base.cuda->device());
  }
  Offer mine;
  mine.pid = ::getpid();
  mine.device = device;
  mine.lanes = std::max(lanes, 0);
  const auto offers =
      agree(base, kWhat, mine, [&](Offer& offer) { offer.blocks = blocks_of(device); });
  const int lanes_of_all = lanes_for(offers);
  const std::vector<int> ranks = neighbours_of(base);
  const bool one_host = static_cast<int>(ranks.size()) == base.size;
  Joined joined = share_memory(base, device, ranks, mine);

  auto made = std::make_unique<CudaCommunicator::Impl>(base, device);
  made->shares_device = shares_device(base, offers);
  if (joined.group) {
    made->means = joined.group->in_one_process() ? "threads of one process" : "CUDA IPC";
    made->island = std::make_unique<Island>(joined.group, lanes_of_all, base.settings.algorithm,
                                            base.settings.tuning);
    made->watch = std::make_unique<CudaWatch>(*made->island, *base.engine, *base.supervisor,
                                              base.size == 1 ? nullptr : presence_of(base),
                                              base.settings.engine.operation_timeout);
  }
  if (!one_host || !joined.group) {
    const bool equal = joined.group && !one_host && hosts_are_equal(*base.settings.hosts);
    std::optional<Communicator> across;
    std::optional<Communicator> links = split(0, base.rank);
    if (equal) {
      const auto place = std::find(ranks.begin(), ranks.end(), base.rank) - ranks.begin();
      across = split(static_cast<int>(place), base.rank);
    } else {
      made->watch.reset();
      made->island.reset();
    }
    const std::string reason = one_host ? joined.why_not : "the ranks are on several hosts";
    made->means = "host memory: " + reason;
    if (one_host && base.rank == 0) {
      spdlog::warn(
          "collectives on CUDA memory go through host memory, since ranks cannot share "
          "that of their devices: {}",
          reason);
    }
    if (made->watch) made->watch->watch_graphs();
    made->staged = std::make_unique<Staged>(base, device, std::move(*links), made->island.get(),
                                            std::move(across));
  }
  // Frees and allocations wait for the kernels of all threads of a process: done here, they come
  // before anybody's first call.
  joined.group.reset();
  exchange(base, mine, [](Offer&) {});
  base.cuda = std::make_unique<CudaCommunicator>(std::move(made));
  return *base.cuda;
}

}  // namespace weft::comm
