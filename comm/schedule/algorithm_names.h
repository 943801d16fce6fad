// The algorithms' names, in the order of their table (comm/algorithms): for those who must name one
// and may not know more.
#pragma once

#include <array>
#include <string_view>

namespace weft::comm {

inline constexpr std::array<std::string_view, 7> kAlgorithmNames = {
    "ring", "tree", "halving_doubling", "direct", "two_shot", "recursive_doubling", "hierarchical"};

}  // namespace weft::comm
