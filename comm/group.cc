#include "comm/group.h"

#include <utility>

#include "comm/execute/call.h"

namespace weft::comm {

Failure failure_of(const Trouble& trouble, const std::vector<Member>& members, int rank) {
  Failure failure;
  failure.source = trouble.code == ErrorCode::peer_lost || trouble.code == ErrorCode::corrupt
                       ? Failure::Source::peer
                       : Failure::Source::self;
  failure.code = trouble.code;
  const int whose = trouble.peer;
  if (whose >= 0) {
    const Member& member = members[static_cast<std::size_t>(whose)];
    failure.rank = member.job_rank;
    failure.host = member.host;
    failure.pid = member.pid;
  }
  failure.what = trouble.what;
  if (failure.source == Failure::Source::peer) {
    failure.what +=
        fmt::format(" (seen by rank {})", members[static_cast<std::size_t>(rank)].job_rank);
  }
  failure.operation = trouble.operation;
  return failure;
}

Verdict verdict_of(const Failure& failure, const std::string& operation) {
  std::string text = describe(failure);
  if (failure.operation.empty() && !operation.empty()) text += ", during " + operation;
  return {failure.code, std::move(text)};
}

std::string list_ranks(const std::vector<int>& ranks) {
  if (ranks.empty()) return {};
  constexpr std::size_t kNamed = 16;
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (i == kNamed) return text + fmt::format(" and {} more", ranks.size() - kNamed);
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

SharedGroup::SharedGroup(int size)
    : world_(std::make_shared<inproc::World>(size, 1)), posts_(static_cast<std::size_t>(size)) {}

Verdict SharedGroup::settle(const Verdict& mine) {
  const std::lock_guard lock(mutex_);
  if (!verdict_) verdict_ = mine;
  return *verdict_;
}

std::optional<Verdict> SharedGroup::verdict() const {
  const std::lock_guard lock(mutex_);
  return verdict_;
}

void SharedGroup::post(int rank, const FrameTag& tag) {
  const std::lock_guard lock(mutex_);
  posts_[static_cast<std::size_t>(rank)] = tag;
}

std::vector<std::optional<FrameTag>> SharedGroup::posts() const {
  const std::lock_guard lock(mutex_);
  return posts_;
}

std::shared_ptr<SharedGroup> SharedGroup::child(const std::string& key, int size) {
  const std::lock_guard lock(mutex_);
  std::erase_if(children_, [](const auto& entry) { return entry.second.expired(); });
  std::shared_ptr<SharedGroup> group = children_[key].lock();
  if (!group) {
    group = std::make_shared<SharedGroup>(size);
    children_[key] = group;
  }
  return group;
}

namespace {

class SharedSupervisor final : public GroupSupervisor {
 public:
  SharedSupervisor(std::shared_ptr<SharedGroup> group, std::vector<Member> members, int rank)
      : GroupSupervisor(std::move(members), rank), group_(std::move(group)) {}

  Verdict settle(const Trouble& trouble) override {
    return announce(trouble, Failure::Source::peer);
  }
  Verdict announce(const Trouble& trouble, Failure::Source) override {
    return group_->settle(verdict_of(failure_of(trouble, members_, rank_), {}));
  }
  std::optional<Trouble> stalled(const FrameTag& tag) override {
    group_->post(rank_, tag);
    return find_disagreement(group_->posts(), *this, rank_);
  }
  std::string who_is_missing(const FrameTag& tag) override {
    group_->post(rank_, tag);
    return find_missing(group_->posts(), tag, *this);
  }

 private:
  std::shared_ptr<SharedGroup> group_;
};

}  // namespace

std::shared_ptr<GroupSupervisor> make_shared_supervisor(std::shared_ptr<SharedGroup> group,
                                                        std::vector<Member> members, int rank) {
  return std::make_shared<SharedSupervisor>(std::move(group), std::move(members), rank);
}

std::optional<Trouble> find_disagreement(const std::vector<std::optional<FrameTag>>& posts,
                                         const GroupSupervisor& names, int rank) {
  const auto& mine = posts[static_cast<std::size_t>(rank)];
  if (!mine) return std::nullopt;
  for (std::size_t r = 0; r < posts.size(); ++r) {
    if (!posts[r] || posts[r]->sequence != mine->sequence || *posts[r] == *mine) continue;
    int first = rank;
    int second = static_cast<int>(r);
    if (first > second) std::swap(first, second);
    const FrameTag& ours = *posts[static_cast<std::size_t>(first)];
    const FrameTag& theirs = *posts[static_cast<std::size_t>(second)];
    const auto told = [&](const FrameTag& tag) {
      std::string text = describe(tag);
      if (describe(ours) == describe(theirs)) {
        text += fmt::format(" (algorithm {})", algorithm_name(tag.algorithm));
      }
      return text;
    };
    return Trouble{
        ErrorCode::mismatch,
        -1,
        fmt::format("ranks disagree: rank {} calls {}; rank {} calls {}; all ranks must "
                    "make the same calls in the same order",
                    names.name_of(first), told(ours), names.name_of(second), told(theirs)),
        {}};
  }
  return std::nullopt;
}

std::string find_missing(const std::vector<std::optional<FrameTag>>& posts, const FrameTag& tag,
                         const GroupSupervisor& names) {
  std::vector<int> missing;
  for (std::size_t r = 0; r < posts.size(); ++r) {
    const bool entered = posts[r] && posts[r]->sequence >= tag.sequence;
    if (!entered) missing.push_back(names.name_of(static_cast<int>(r)));
  }
  if (missing.empty()) return "all ranks have entered it";
  return list_ranks(missing) + (missing.size() == 1 ? " has" : " have") + " not entered it";
}

}  // namespace weft::comm
