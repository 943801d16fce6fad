#include "comm/symmetric.h"

#include <sys/mman.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
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

std::vector<Offer> exchange(Communicator& communicator, const Offer& mine) {
  std::vector<Offer> all(static_cast<std::size_t>(communicator.size()));
  const Elems each(sizeof(Offer));
  communicator.all_gather({&mine, each, DType::u8},
                          {all.data(), each * communicator.size(), DType::u8});
  return all;
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

}  // namespace

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

SymmetricMemory SymmetricHeap::allocate(Communicator& communicator, Bytes bytes) {
  const auto table = host_->segments();
  const auto group = host_->group();
  Offer mine;
  mine.bytes = bytes.value;
  const auto retired = table->retired();
  mine.retired_count = static_cast<std::uint32_t>(std::min(retired.size(), kRetiredMax));
  std::copy_n(retired.begin(), mine.retired_count, mine.retired.begin());
  std::optional<shm::Segment> segment;
  const auto length = std::max<std::size_t>(bytes.size(), 1);
  try {
    check_available(bytes, group->size());
    segment.emplace("weft-symmetric", length, true);
    mine.pid = segment->handle().pid;
    mine.fd = segment->handle().fd;
  } catch (const Error& error) {
    say(mine, error.what());
  }
  const std::vector<Offer> offers = exchange(communicator, mine);
  check(offers);
  std::vector<shm::Mapping> mappings;
  Offer mapped;
  mapped.bytes = bytes.value;
  try {
    for (int m = 0; m < group->size(); ++m) {
      const Offer& theirs = offers[static_cast<std::size_t>(group->rank_of(m))];
      mappings.push_back(m == group->self() ? segment->mapping()
                                            : shm::map_segment({theirs.pid, theirs.fd}, length));
    }
  } catch (const Error& error) {
    say(mapped, error.what());
  }
  check(exchange(communicator, mapped));
  for (std::uint32_t k = 0; k < mine.retired_count; ++k) {
    const std::uint16_t number = mine.retired[k];
    const bool by_all = std::all_of(offers.begin(), offers.end(), [&](const Offer& offer) {
      const auto* end =
          offer.retired.data() + std::min<std::size_t>(offer.retired_count, kRetiredMax);
      return std::find(offer.retired.data(), end, number) != end;
    });
    if (by_all) table->drop(number);
  }
  shm::Mapping own = segment->mapping();
  const std::uint16_t number = table->add(std::move(mappings), bytes.size());
  // The caller's hold: when it goes, calls do not recognise the memory any more.
  std::shared_ptr<std::byte> hold(own.get(), [own, table, number](std::byte*) mutable {
    table->retire(number);
    own.reset();
  });
  return {std::move(hold), bytes};
}

SymmetricMemory Communicator::allocate_symmetric(Bytes bytes) {
  if (bytes.value < 0) {
    fail<InvalidArgument>("rank {}: allocate_symmetric: {} bytes, expected 0 or more", impl_->rank,
                          bytes.value);
  }
  return impl_->symmetric ? impl_->symmetric->allocate(*this, bytes) : allocate_pages(bytes);
}

}  // namespace weft::comm
