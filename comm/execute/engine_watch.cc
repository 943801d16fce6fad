// The engine's watch over slow operations, and how it finds out what broke.
#include <algorithm>
#include <utility>

#include "comm/execute/engine.h"

namespace weft::comm {

namespace {
constexpr std::chrono::milliseconds kWatchEvery{200};
}

std::chrono::milliseconds Engine::watch_interval() const {
  return std::clamp(options_.operation_timeout / 8, std::chrono::milliseconds(1), kWatchEvery);
}

void Engine::watch() {
  const auto now = Clock::now();
  if (now - last_watch_ < watch_interval()) return;
  last_watch_ = now;
  const std::uint64_t bytes = mesh_->bytes_moved();
  const bool moved = bytes != bytes_seen_;
  bytes_seen_ = bytes;
  for (std::size_t i = 0; i < running_.size() && !failed(); ++i) watch(*running_[i], moved, now);
}

void Engine::watch(Operation& operation, bool moved, Clock::time_point now) {
  if (moved || operation.nodes_done != operation.nodes_seen) {
    operation.nodes_seen = operation.nodes_done;
    operation.quiet_since = now;
    // Early enough that everybody has said where they are before the first one gives up.
    operation.next_notice = std::min(options_.stall_notice, options_.operation_timeout / 3);
    return;
  }
  const auto quiet =
      std::chrono::duration_cast<std::chrono::milliseconds>(now - operation.quiet_since);
  const bool pairwise = operation.point_to_point();
  if (quiet >= options_.operation_timeout) {
    const std::string missing =
        pairwise ? std::string() : supervisor_->who_is_missing(operation.tag);
    settle({ErrorCode::timeout, -1,
            fmt::format("no progress for {:.1f} s on rank {}{}{}",
                        static_cast<double>(quiet.count()) / 1000,
                        supervisor_->name_of(mesh_->rank()), missing.empty() ? "" : "; ", missing),
            describe(operation)});
    return;
  }
  if (pairwise || quiet < operation.next_notice) return;
  operation.next_notice *= 2;
  if (auto trouble = supervisor_->stalled(operation.tag)) settle(*trouble);
}

// Finds out what this really was, and fails everything with it.
void Engine::settle(const Trouble& trouble) {
  const Verdict verdict = supervisor_->settle(trouble);
  {
    const std::lock_guard lock(mutex_);
    set_verdict(verdict);
  }
  fail_running();
}

Trouble Engine::trouble_of(const Error& error) {
  Trouble trouble{error.code(), current_ == nullptr ? -1 : current_->peer, error.what(),
                  first_in_flight()};
  if (current_ != nullptr && current_->head != nullptr) {
    trouble.operation = describe(*current_->head->operation);
  }
  current_ = nullptr;
  // The operating system refused this rank something: no peer is to blame.
  if (error.code() == ErrorCode::io) trouble.peer = mesh_->rank();
  if (const auto* lost = dynamic_cast<const LinkLost*>(&error)) trouble.peer = lost->peer;
  if (const auto* mismatch = dynamic_cast<const FrameMismatch*>(&error)) {
    FrameTag counterpart = mismatch->expected;
    const bool collective = mismatch->found.collective < kScheduledCollectives;
    if (collective && mismatch->found.sequence < mismatch->expected.sequence) {
      // This rank got through an earlier call in which they disagreed: that is the one to name.
      const std::lock_guard lock(mutex_);
      const FrameTag& earlier = recent_[mismatch->found.sequence % recent_.size()];
      if (earlier.sequence == mismatch->found.sequence) counterpart = earlier;
    }
    std::string ours = comm::describe(counterpart);
    std::string theirs = comm::describe(mismatch->found);
    if (ours == theirs) {  // the same call on the face of it: what differs is how it is carried out
      const bool sized = mismatch->expected_bytes != mismatch->found_bytes;
      const auto add = [&](std::string& text, const FrameTag& tag, const char* does, Bytes bytes) {
        text += fmt::format(" (algorithm {}", algorithm_name(tag.algorithm));
        if (sized) text += fmt::format(", {} message {} of {} bytes", does, tag.index, bytes.value);
        text += ')';
      };
      add(ours, mismatch->expected, "expects", mismatch->expected_bytes);
      add(theirs, mismatch->found, "sends", mismatch->found_bytes);
    }
    trouble.peer = -1;  // which of them is wrong, nobody knows
    const int here = supervisor_->name_of(mesh_->rank());
    const int there = supervisor_->name_of(mismatch->peer);
    trouble.what = fmt::format(
        "ranks disagree: rank {} calls {}; rank {} calls {}; all ranks must make the same calls in "
        "the same order",
        std::min(here, there), here < there ? ours : theirs, std::max(here, there),
        here < there ? theirs : ours);
  }
  return trouble;
}

std::string Engine::first_in_flight() const {
  return running_.empty() ? std::string() : describe(*running_.front());
}

std::string Engine::describe(const Operation& operation) const {
  const int peer = operation.call.root;
  const bool pairwise = operation.point_to_point();
  return comm::describe(operation.call, operation.sequence,
                        pairwise ? supervisor_->name_of(peer) : peer);
}

}  // namespace weft::comm
