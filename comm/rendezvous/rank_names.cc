#include "comm/rendezvous/rank_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "comm/rendezvous/handshake.h"

namespace weft::comm {

std::string name_of_rank(std::int32_t rank) {
  if (rank >= 0) return fmt::format("rank {}", rank);
  if (rank <= kStoreRank) return "the store";
  return fmt::format("the agent of node {}", -1 - rank);
}

std::string list_of_ranks(std::span<const std::int32_t> ranks, std::size_t runs_max) {
  std::vector<std::int32_t> sorted(ranks.begin(), ranks.end());
  std::sort(sorted.begin(), sorted.end());
  std::string text;
  std::size_t runs = 0;
  for (std::size_t i = 0; i < sorted.size();) {
    std::size_t last = i;
    while (last + 1 < sorted.size() && sorted[last + 1] == sorted[last] + 1) ++last;
    if (last == i + 1) last = i;  // "3, 4" reads better than "3-4"
    if (++runs > runs_max) return text + fmt::format(", and {} more", sorted.size() - i);
    if (!text.empty()) text += ", ";
    text +=
        last == i ? fmt::format("{}", sorted[i]) : fmt::format("{}-{}", sorted[i], sorted[last]);
    i = last + 1;
  }
  return text;
}

std::string name_of_ranks(std::span<const std::int32_t> ranks) {
  std::vector<std::int32_t> plain;
  std::vector<std::int32_t> nodes;
  for (const std::int32_t rank : ranks) {
    if (rank >= 0) {
      plain.push_back(rank);
    } else {
      nodes.push_back(-1 - rank);
    }
  }
  std::string text;
  if (!plain.empty()) {
    text = fmt::format("{} {}", plain.size() == 1 ? "rank" : "ranks", list_of_ranks(plain));
  }
  if (!nodes.empty()) {
    if (!text.empty()) text += "; ";
    text += nodes.size() == 1 ? name_of_rank(-1 - nodes[0])
                              : fmt::format("the agents of nodes {}", list_of_ranks(nodes));
  }
  return text;
}

}  // namespace weft::comm
