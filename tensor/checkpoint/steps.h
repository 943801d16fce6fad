// The checkpoints of a run, side by side in a directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace weft::checkpoint {

inline constexpr const char* kStateFile = "state.json";  // of a step that one process wrote

// out/step-N.
std::filesystem::path training_step(const std::filesystem::path& out, std::int64_t iteration);
// Makes `out` where it is missing, and removes what dead writers have left there. IoError.
void prepare_directory(const std::filesystem::path& out);
// Of checkpoints NAME-N beside `newest` removes, oldest first, those before it, so that `keep` stay
// with it. 0 keeps all.
void check_keep(const std::filesystem::path& newest, int keep);  // InvalidArgument: not so called
void remove_older(const std::filesystem::path& newest, int keep);

// The steps in `out`, oldest first.
std::vector<std::filesystem::path> training_steps(const std::filesystem::path& out);
// The newest; IoError if there is none.
std::filesystem::path latest_training(const std::filesystem::path& out);

}  // namespace weft::checkpoint
