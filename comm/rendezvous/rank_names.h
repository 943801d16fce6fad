// How messages name ranks.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace weft::comm {

// "rank 3", "the agent of node 0", "the store".
std::string name_of_rank(std::int32_t rank);

// "1, 3-5": ascending, runs of three and more joined; at most `runs_max` of them.
std::string list_of_ranks(std::span<const std::int32_t> ranks, std::size_t runs_max = 32);

// "ranks 1, 3-5; the agents of nodes 0, 2".
std::string name_of_ranks(std::span<const std::int32_t> ranks);

}  // namespace weft::comm
