#include "comm/rendezvous/jury.h"

#include <fmt/format.h>

#include "comm/rendezvous/rank_names.h"

namespace weft::comm {
namespace {

using Source = Failure::Source;

bool blames_others(const Failure& failure) {
  return failure.source == Source::self &&
         (failure.code == ErrorCode::peer_lost || failure.code == ErrorCode::timeout ||
          failure.code == ErrorCode::aborted);
}

Source weight_of(const Failure& failure) {
  return blames_others(failure) ? Source::peer : failure.source;  // smaller weighs more
}

}  // namespace

bool FailureJury::outweighs(const Failure& failure) const {
  if (!best_) return true;
  if (weight_of(failure) != weight_of(*best_)) return weight_of(failure) < weight_of(*best_);
  return failure.rank == first_suspect_ && best_->rank != first_suspect_;
}

bool FailureJury::hear(const Failure& failure) {
  if (!best_) {
    first_suspect_ = failure.rank;
    first_source_ = weight_of(failure);
  }
  if (outweighs(failure)) best_ = failure;
  if (weight_of(failure) > Source::self) return false;
  // Another rank's connection went first: its agent may still have a word to say.
  return failure.rank == first_suspect_ || first_source_ != Source::connection;
}

std::string describe(const Failure& failure) {
  const bool named = failure.rank != -1;
  std::string text = named ? name_of_rank(failure.rank) : std::string();
  std::string where = failure.host;
  if (failure.pid > 0) where += fmt::format("{}pid {}", where.empty() ? "" : ", ", failure.pid);
  if (!where.empty()) text += fmt::format("{}({})", named ? " " : "", where);
  if (!text.empty()) text += ": ";
  text += failure.what.empty() ? name_of(failure.code) : std::string_view(failure.what);
  if (!failure.operation.empty()) text += fmt::format(", during {}", failure.operation);
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';  // one line, whatever an error's text holds
  }
  return text;
}

}  // namespace weft::comm
