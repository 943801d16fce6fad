// Tensor core products, matrix loads and asynchronous copies, lane by lane. The fragment layouts
// are those of the PTX ISA ("Matrix Fragments for mma.m16n8k16 with floating point type", "...
// m16n8k8", "ldmatrix"); kernels/cuda/native/hardware.cuh repeats them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/base/half.h"
#include "tests/emulator/block.h"

namespace weft::emulated {

// What the 32 lanes hold of A and B for one product.
struct Fragments {
  std::uint64_t a01[32], a23[32], b01[32];

  std::uint32_t a(unsigned lane, unsigned index) const {
    return static_cast<std::uint32_t>((index < 2 ? a01 : a23)[lane] >> (index % 2 * 32));
  }
  std::uint32_t b(unsigned lane, unsigned index) const {
    return static_cast<std::uint32_t>(b01[lane] >> (index * 32));
  }
};
void gather(Fragments& all, const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);

// d = c + A B for this lane's four elements; sums are exact before the one rounding to float, where
// hardware may lose the last bits.
template <class T>
void mma_16bit(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
               const float (&c)[4]) {
  Fragments all;
  gather(all, a, b);
  const auto element = [](std::uint32_t two, unsigned k) {
    T value;
    value.bits = static_cast<std::uint16_t>(two >> (k % 2 * 16));
    return static_cast<double>(static_cast<float>(value));
  };
  const unsigned group = lane() / 4, t = lane() % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned high_row = i / 2, column = 2 * t + i % 2;
    double sum = static_cast<double>(c[i]);
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned holder = k % 8 / 2, half = k / 8;
      sum += element(all.a(4 * group + holder, high_row + 2 * half), k) *
             element(all.b(4 * column + holder, half), k);
    }
    d[i] = static_cast<float>(sum);
  }
}
void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
              const float (&c)[4]);

void load_matrices(std::uint32_t (&r)[4], const void* row, bool transposed);

// A copy happens when it is waited for: whoever reads earlier reads what was there before.
void async_copy(void* shared, const void* global, bool inside);
void async_commit();
void async_wait(int groups_left);

void check_aligned(const void* address, std::size_t bytes);
// A load that may belong to a loop that waits for it to change: now and then lets others run.
void polled();

}  // namespace weft::emulated
