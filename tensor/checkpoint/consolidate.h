// From many files to one and back, in one process, whatever the size: a chunk at a time.
#pragma once

#include <filesystem>

#include "tensor/checkpoint/source.h"

namespace weft::checkpoint {

struct ConsolidateOptions {
  // false: the part "model" under its tensors' own names (Hugging Face's for GPT-2), or the only
  // part there is. true: all parts, tensors called "PART.NAME", and in the metadata all that
  // split() needs to make the same checkpoint again.
  bool everything = false;
};

// Verifies all of `source`, then replaces `file` at once. IoError, Corrupt; Mismatch where there is
// no model.
void consolidate(const Source& source, const std::filesystem::path& file,
                 const ConsolidateOptions& options = {});

// As if `shards` ranks had saved it; replaces `directory` at once. InvalidArgument below one shard.
void split(const Source& source, int shards, const std::filesystem::path& directory);

}  // namespace weft::checkpoint
