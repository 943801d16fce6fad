// Rows of a table by index, and the sum of gradients back into the table.
//
// Contiguous memory; the table is f64, f32, f16 or bf16, indices i32 or i64. InvalidArgument names
// the first index outside [0, entries). Runs on the current thread pool; results do not depend on
// its size.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace weft::kernels {

struct Embedding {
  DType dtype = DType::f32;
  DType index_type = DType::i64;
  std::int64_t entries = 0, width = 0;
  std::int64_t count = 0;         // of indices
  const void* indices = nullptr;  // (count)
};

// y[i] = table[indices[i]].
void embedding(const Embedding& problem, const void* table, void* y);
// dtable (entries, width) = 0, then dtable[indices[i]] += dy[i] in the order of i, halves in f32.
void embedding_backward(const Embedding& problem, const void* dy, void* dtable);

}  // namespace weft::kernels
