// Steps that all ranks take together, or none: who cannot says why, and all throw alike.
#pragma once

#include <array>
#include <cstring>
#include <type_traits>
#include <vector>

#include "comm/impl.h"

namespace weft::comm {

// What a rank has to say against a step; the first member of what it says. Text is cut to fit.
struct Complaint {
  std::int32_t code = -1;  // an ErrorCode; -1: none
  std::array<char, 508> text{};
};

// All ranks' offers, after each did `deed` with its own.
template <class Offer, class Deed>
std::vector<Offer> exchange(Communicator::Impl& base, Offer& mine, const Deed& deed) {
  static_assert(std::is_trivially_copyable_v<Offer>);
  try {
    deed(mine);
  } catch (const Error& error) {
    mine.complaint.code = static_cast<std::int32_t>(error.code());
    std::strncpy(mine.complaint.text.data(), error.what(), mine.complaint.text.size() - 1);
  }
  std::vector<Offer> all(static_cast<std::size_t>(base.size));
  const Elems each(sizeof(Offer));
  base.run(
      base.all_gather({&mine, each, DType::u8}, {all.data(), each * base.size, DType::u8}, {}));
  return all;
}

// The rank of the first complaint, or -1.
template <class Offer>
int first_complaint(const std::vector<Offer>& offers) {
  for (std::size_t r = 0; r < offers.size(); ++r) {
    if (offers[r].complaint.code >= 0) return static_cast<int>(r);
  }
  return -1;
}

// The same, throwing the first complaint on all ranks.
template <class Offer, class Deed>
std::vector<Offer> agree(Communicator::Impl& base, const char* what, Offer& mine,
                         const Deed& deed) {
  auto all = exchange(base, mine, deed);
  if (const int rank = first_complaint(all); rank >= 0) {
    const Complaint& complaint = all[static_cast<std::size_t>(rank)].complaint;
    throw_error(static_cast<ErrorCode>(complaint.code),
                fmt::format("{}: rank {}: {}", what, base.supervisor->name_of(rank),
                            complaint.text.data()));
  }
  return all;
}

}  // namespace weft::comm
