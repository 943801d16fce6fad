#include "tests/emulator/tensor_cores.h"

#include <fmt/format.h>

#include <cstring>

#include "tests/emulator/copies.h"
#include "tests/emulator/failure.h"
#include "tests/emulator/memory.h"

namespace weft::emulated {
namespace {

constexpr unsigned kEveryLane = 0xffffffffu;
constexpr std::size_t kCopyBytes = 16;

std::uint64_t two(std::uint32_t low, std::uint32_t high) {
  return static_cast<std::uint64_t>(high) << 32 | low;
}

double from_tf32(std::uint32_t bits) {
  return static_cast<double>(std::bit_cast<float>(bits & ~0x1fffu));  // what the hardware reads
}

}  // namespace

void gather(Fragments& all, const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  exchange(kEveryLane, two(a[0], a[1]), all.a01);
  exchange(kEveryLane, two(a[2], a[3]), all.a23);
  exchange(kEveryLane, two(b[0], b[1]), all.b01);
}

void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
              const float (&c)[4]) {
  Fragments all;
  gather(all, a, b);
  const unsigned group = lane() / 4, t = lane() % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned high_row = i / 2, column = 2 * t + i % 2;
    double sum = static_cast<double>(c[i]);
    for (unsigned k = 0; k < 8; ++k) {
      const unsigned holder = k % 4, half = k / 4;
      sum += from_tf32(all.a(4 * group + holder, high_row + 2 * half)) *
             from_tf32(all.b(4 * column + holder, half));
    }
    d[i] = static_cast<float>(sum);
  }
}

void load_matrices(std::uint32_t (&r)[4], const void* row, bool transposed) {
  check_aligned(row, kCopyBytes);
  std::uint64_t rows[32];
  exchange(kEveryLane, static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(row)), rows);
  const unsigned group = lane() / 4, t = lane() % 4;
  const auto element = [&](unsigned matrix, unsigned i, unsigned j) {
    std::uint16_t value;
    const auto* const from =
        reinterpret_cast<const std::byte*>(static_cast<std::uintptr_t>(rows[8 * matrix + i]));
    std::memcpy(&value, from + 2 * j, sizeof value);
    return static_cast<std::uint32_t>(value);
  };
  for (unsigned matrix = 0; matrix < 4; ++matrix) {
    const std::uint32_t low =
        transposed ? element(matrix, 2 * t, group) : element(matrix, group, 2 * t);
    const std::uint32_t high =
        transposed ? element(matrix, 2 * t + 1, group) : element(matrix, group, 2 * t + 1);
    r[matrix] = low | high << 16;
  }
  sync_warp(kEveryLane);  // nobody goes on, to overwrite a row, before all have read
}

void async_copy(void* shared, const void* global, bool inside) {
  check_aligned(shared, kCopyBytes);
  check_aligned(global, kCopyBytes);
  if (inside) check_access(global, kCopyBytes);
  pending_copies().copies.push_back({shared, global, inside});
}

void async_commit() {
  auto& pending = pending_copies();
  pending.groups.push_back(pending.copies.size());
}

void async_wait(int groups_left) {
  auto& pending = pending_copies();
  const auto groups = static_cast<int>(pending.groups.size());
  if (groups <= groups_left) return;
  const std::size_t done = static_cast<std::size_t>(groups - groups_left);
  const std::size_t copies = pending.groups[done - 1];
  for (std::size_t i = 0; i < copies; ++i) {
    const auto& copy = pending.copies[i];
    if (copy.inside) {
      std::memcpy(copy.shared, copy.global, kCopyBytes);
    } else {
      std::memset(copy.shared, 0, kCopyBytes);
    }
  }
  using Offset = std::ptrdiff_t;
  pending.copies.erase(pending.copies.begin(),
                       pending.copies.begin() + static_cast<Offset>(copies));
  pending.groups.erase(pending.groups.begin(), pending.groups.begin() + static_cast<Offset>(done));
  for (auto& end : pending.groups) end -= copies;
}

void check_aligned(const void* address, std::size_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(address) % bytes == 0) return;
  throw KernelFailure{
      fmt::format("a misaligned access: {} is not a multiple of {}", describe(address), bytes)};
}

void polled() {
  static thread_local unsigned polls = 0;
  if (++polls % 16 == 0) pause();
}

}  // namespace weft::emulated
