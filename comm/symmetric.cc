// Memory that the ranks of one host have mapped from each other. What a rank no longer uses is not
// recognised in its calls any more, but stays mapped until all ranks have dropped it: then the next
// allocation lets it go.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "comm/impl.h"

namespace weft::comm {

namespace {

constexpr std::size_t kRetiredMax = 64;  // segments let go at one allocation

// What every rank says of its allocation. Text is cut to fit.
struct Offer {
  std::int64_t bytes = 0;
  std::int64_t pid = 0;
  std::int32_t fd = -1;
  std::uint32_t retired_count = 0;
  std::array<std::uint16_t, kRetiredMax> retired{};
  std::array<char, 256> trouble{};
};

void say(Offer& offer, const char* text) {
  std::strncpy(offer.trouble.data(), text, offer.trouble.size() - 1);
}

// All ranks see the same offers, and so throw alike.
void check(const std::vector<Offer>& offers) {
  for (std::size_t r = 0; r < offers.size(); ++r) {
    if (offers[r].trouble[0] != '\0') {
      fail<IoError>("allocate_symmetric: rank {}: {}", r, offers[r].trouble.data());
    }
    if (offers[r].bytes != offers[0].bytes) {
      fail<InvalidArgument>(
          "allocate_symmetric: rank 0 asks for {} bytes, rank {} for {}; it must be the same on "
          "all ranks",
          offers[0].bytes, r, offers[r].bytes);
    }
  }
}

// Every rank does `deed`, which may throw, and then all hear of all; if one threw, all do.
template <class Deed>
std::vector<Offer> agree(Communicator& communicator, Offer mine, const Deed& deed) {
  try {
    deed(mine);
  } catch (const Error& error) {
    say(mine, error.what());
  }
  std::vector<Offer> all(static_cast<std::size_t>(communicator.size()));
  const Elems each(sizeof(Offer));
  communicator.all_gather({&mine, each, DType::u8},
                          {all.data(), each * communicator.size(), DType::u8});
  check(all);
  return all;
}

// What a container may still use, or the largest number where nothing says.
std::int64_t left_in_cgroup() {
  std::int64_t most = 0;
  std::int64_t used = 0;
  std::ifstream limit("/sys/fs/cgroup/memory.max");
  std::ifstream usage("/sys/fs/cgroup/memory.current");
  if (!(limit >> most) || !(usage >> used)) return std::numeric_limits<std::int64_t>::max();
  return std::max<std::int64_t>(most - used, 0);
}

std::int64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  std::int64_t kibibytes = 0;
  std::string unit;
  while (file >> name >> kibibytes >> unit) {
    if (name == "MemAvailable:") return std::min(kibibytes * 1024, left_in_cgroup());
  }
  return left_in_cgroup();
}

// Reserving more than there is would let the kernel end a process at its choice.
void check_available(Bytes bytes, int ranks_here) {
  const std::int64_t available = available_memory();
  if (bytes.value <= available / ranks_here) return;
  fail<IoError>(
      "{} bytes for each of {} ranks of this host is more than the {} bytes of memory that are "
      "available; use less, or fewer ranks a host",
      bytes.value, ranks_here, available);
}

// Zeroed pages that nobody else maps.
SymmetricMemory allocate_pages(Bytes bytes) {
  const std::size_t length = std::max<std::size_t>(bytes.size(), 1);
  void* const memory =
      ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    fail<IoError>("cannot allocate {} bytes ({}): use less, or raise ulimit -v", bytes.value,
                  std::strerror(errno));
  }
  return {{static_cast<std::byte*>(memory), [length](std::byte* m) { ::munmap(m, length); }},
          bytes};
}

// Lets go of what all ranks of the host have let go.
void drop_retired(shm::SegmentTable& table, const memory::Group& group, const Offer& mine,
                  const std::vector<Offer>& offers) {
  for (std::uint32_t k = 0; k < mine.retired_count; ++k) {
    const std::uint16_t number = mine.retired[k];
    bool by_all = true;
    for (int m = 0; m < group.size(); ++m) {
      const Offer& offer = offers[static_cast<std::size_t>(group.rank_of(m))];
      const auto* begin = offer.retired.data();
      const auto* end = begin + std::min<std::size_t>(offer.retired_count, kRetiredMax);
      by_all = by_all && std::find(begin, end, number) != end;
    }
    if (by_all) table.drop(number);
  }
}

int ranks_here(const Communicator::Impl& impl) {
  if (impl.settings.hosts == nullptr) return impl.size;
  const HostMap& map = *impl.settings.hosts;
  const auto host = static_cast<std::size_t>(map.host_of[static_cast<std::size_t>(impl.rank)]);
  return static_cast<int>(map.hosts[host].size());
}

}  // namespace

// Ranks that share no memory take part all the same: all hear what went wrong with one.
SymmetricMemory Communicator::allocate_symmetric(Bytes bytes) {
  if (bytes.value < 0) {
    fail<InvalidArgument>("rank {}: allocate_symmetric: {} bytes, expected 0 or more", impl_->rank,
                          bytes.value);
  }
  shm::Host* const host = impl_->host.get();
  const auto length = std::max<std::size_t>(bytes.size(), 1);
  Offer mine;
  mine.bytes = bytes.value;
  // Before anybody takes any: what one has taken is missing when the next looks.
  agree(*this, mine, [&](const Offer&) { check_available(bytes, ranks_here(*impl_)); });
  SymmetricMemory pages;
  std::optional<shm::Segment> segment;
  if (host != nullptr) {
    const auto retired = host->segments()->retired();
    mine.retired_count = static_cast<std::uint32_t>(std::min(retired.size(), kRetiredMax));
    std::copy_n(retired.begin(), mine.retired_count, mine.retired.begin());
  }
  const auto offers = agree(*this, mine, [&](Offer& offer) {
    if (host == nullptr) {
      pages = allocate_pages(bytes);
      return;
    }
    segment.emplace("weft-symmetric", length, true);
    offer.pid = segment->handle().pid;
    offer.fd = segment->handle().fd;
  });
  std::vector<shm::Mapping> mappings;
  agree(*this, mine, [&](const Offer&) {
    for (int m = 0; host != nullptr && m < host->group()->size(); ++m) {
      const Offer& theirs = offers[static_cast<std::size_t>(host->group()->rank_of(m))];
      mappings.push_back(m == host->group()->self()
                             ? segment->mapping()
                             : shm::map_segment({theirs.pid, theirs.fd}, length));
    }
  });
  if (host == nullptr) return pages;
  const auto table = host->segments();
  drop_retired(*table, *host->group(), mine, offers);
  shm::Mapping own = segment->mapping();
  const std::uint16_t number = table->add(std::move(mappings), bytes.size());
  // The caller's hold: when it goes, calls do not recognise the memory any more.
  std::shared_ptr<std::byte> hold(own.get(), [own, table, number](std::byte*) mutable {
    table->retire(number);
    own.reset();
  });
  return {std::move(hold), bytes};
}

}  // namespace weft::comm
