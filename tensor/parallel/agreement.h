// Do all ranks train the same model? Compared before the first gradient travels, so that a
// difference is an error with a name and not a wrong sum.
#pragma once

#include <span>

#include "tensor/parallel/ddp.h"

namespace weft::parallel {

// Collective. Throws Mismatch on every rank, naming the first parameter or buffer that differs,
// what rank 0 has and what the other rank has.
void verify_same_tensors(std::span<const NamedTensor> tensors, Communicator& communicator);

}  // namespace weft::parallel
