// What one rank does for a sharded checkpoint, and what becomes of it in the manifest.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tensor/checkpoint/shard_file.h"
#include "tensor/checkpoint/shard_plan.h"

namespace weft::checkpoint {

struct RankFiles {
  int rank = 0;
  int world_size = 1;
  std::vector<std::string> parts;  // as the rank's own list
  RankPlan plan;
  std::vector<ShardPiece> pieces;  // as the plan
};

// Writes a file for each part in which the rank has something to write, to the disk. Gives a report
// for write_manifest(): sizes, offsets, checksums. IoError.
std::string write_rank_files(const RankFiles& files, const std::filesystem::path& directory);

// manifest.json, from the reports of all ranks in order, to the disk. IoError.
void write_manifest(const std::filesystem::path& directory, const SavePlan& plan,
                    const std::vector<std::string>& reports);

}  // namespace weft::checkpoint
