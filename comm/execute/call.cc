#include "comm/execute/call.h"

#include "comm/schedule/algorithm_names.h"

namespace weft::comm {

namespace {

bool is_point_to_point(Collective collective) {
  return collective == Collective::send || collective == Collective::recv;
}

// Tags come from other machines: an unknown code is printed, never looked up.
std::string collective_name(std::uint8_t code) {
  if (code > static_cast<std::uint8_t>(Collective::recv))
    return fmt::format("collective({})", code);
  const auto collective = static_cast<Collective>(code);
  return is_point_to_point(collective) ? "send/recv" : name_of(collective);
}

std::string dtype_name(std::uint8_t code) {
  if (code >= kDTypeCount) return fmt::format("dtype({})", code);
  return std::string(name_of(static_cast<DType>(code)));
}

std::string op_name(std::uint8_t code) {
  if (code >= kReduceOpCount) return fmt::format("op({})", code);
  return std::string(name_of(static_cast<ReduceOp>(code)));
}

}  // namespace

FrameTag tag_of(const Call& call, std::uint32_t sequence) {
  FrameTag tag;
  tag.sequence = sequence;
  const bool pairwise = is_point_to_point(call.collective);
  tag.collective = static_cast<std::uint8_t>(pairwise ? Collective::send : call.collective);
  tag.dtype = static_cast<std::uint8_t>(call.dtype);
  tag.op = is_reducing(call.collective) ? static_cast<std::uint8_t>(call.op) : std::uint8_t{0};
  tag.algorithm = call.algorithm;
  tag.root = is_rooted(call.collective) ? call.root : -1;
  tag.detail = call.detail;
  tag.wire =
      call.wire ? static_cast<std::uint8_t>(1 + static_cast<int>(*call.wire)) : std::uint8_t{0};
  tag.count = static_cast<std::uint64_t>(call.count.value);
  return tag;
}

std::string algorithm_name(std::uint8_t code) {
  if (code >= kAlgorithmNames.size()) return fmt::format("algorithm({})", code);
  return std::string(kAlgorithmNames[code]);
}

std::string describe(const FrameTag& tag) {
  std::string text = fmt::format("{}{} #{}", collective_name(tag.collective),
                                 tag.detail != 0 ? "_v" : "", tag.sequence);
  if (tag.collective == static_cast<std::uint8_t>(Collective::barrier)) return text;
  const bool own_counts = tag.detail == kOwnCounts;
  text += own_counts ? ", " + dtype_name(tag.dtype)
                     : fmt::format(", {} x {}", tag.count, dtype_name(tag.dtype));
  if (tag.wire != 0) text += " sent as " + dtype_name(static_cast<std::uint8_t>(tag.wire - 1));
  const auto collective = static_cast<Collective>(tag.collective);
  if (tag.collective < kScheduledCollectives && is_reducing(collective)) {
    text += ", " + op_name(tag.op);
  }
  if (tag.root >= 0) text += fmt::format(", root {}", tag.root);
  if (tag.detail != 0 && !own_counts) text += fmt::format(", counts {:08x}", tag.detail);
  return text;
}

std::string describe(const Call& call, std::uint32_t sequence, int peer_name) {
  if (!is_point_to_point(call.collective)) return describe(tag_of(call, sequence));
  const bool sends = call.collective == Collective::send;
  return fmt::format("{} #{} {} rank {}, {} x {}", sends ? "send" : "recv", sequence,
                     sends ? "to" : "from", peer_name, call.count.value, name_of(call.dtype));
}

}  // namespace weft::comm
