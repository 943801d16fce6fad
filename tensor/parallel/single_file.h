// One safetensors file of what all ranks hold together.
#pragma once

#include <filesystem>

#include "comm/communicator.h"
#include "tensor/checkpoint/safetensors.h"
#include "tensor/parallel/checkpoint.h"

namespace weft::parallel {

// Rank 0 writes "PART.NAME" for every tensor of every part, the parts' names in the metadata
// (checkpoint::kPartsKey) beside rank 0's `metadata`; Source::open() finds them again. Ranks send
// it their shards piece by piece: it needs memory for one of these, not for the model. As
// AtomicFile: the old file stays whole if this fails. Collective. Errors are alike on all ranks:
// IoError names the file; Mismatch and InvalidArgument where the shards of all ranks do not make
// whole tensors.
void save_single_file(const std::filesystem::path& file, const std::vector<ShardedPart>& parts,
                      const checkpoint::Metadata& metadata, Communicator& communicator);

}  // namespace weft::parallel
