#include "comm/planner.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "comm/algorithms/algorithms.h"
#include "comm/passes/lower.h"
#include "comm/passes/passes.h"
#include "kernels/base/error.h"

namespace weft::comm {

namespace {

constexpr std::size_t kKnownMax = 4096;  // different sizes remembered
constexpr std::size_t kPlansMax = 256;
constexpr std::int64_t kSegmentBytes = 512
                                       << 10;  // of point-to-point messages: fits a core's cache
constexpr std::int64_t kSegmentsMax = 4096;
// Larger worlds send messages: a memory schedule is made from those of all ranks.
constexpr int kMemoryWorldMax = 128;
// Below this copying through scratch costs less than asking where all buffers are.
constexpr std::int64_t kChooseBytes = 8 << 10;

std::int32_t index_of(std::string_view name) {
  const auto all = algorithms();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].name == name) return static_cast<std::int32_t>(i);
  }
  return -1;
}

std::string names_of(const auto& accept) {
  std::string names;
  for (const Algorithm& algorithm : algorithms()) {
    if (accept(algorithm)) names += fmt::format("{}{}", names.empty() ? "" : ", ", algorithm.name);
  }
  return names;
}

}  // namespace

void check_algorithm(std::string_view name, const std::string& where) {
  if (name.empty() || name == "auto" || index_of(name) >= 0) return;
  fail<InvalidArgument>("{}: no algorithm is called '{}'; choose one of auto, {}", where, name,
                        names_of([](const Algorithm&) { return true; }));
}

AlgorithmWishes parse_wishes(const std::string& text, const std::string& where) {
  AlgorithmWishes wishes;
  std::array<bool, kScheduledCollectives> named{};
  std::string_view others;
  bool has_others = false;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string_view item = std::string_view(text).substr(at, end - at);
    at = end + 1;
    const std::size_t equals = item.find('=');
    const std::string_view name = equals == item.npos ? item : item.substr(equals + 1);
    check_algorithm(name, where);
    if (name.empty() || at == text.size()) {
      fail<InvalidArgument>("{}: '{}': a name is missing; expected NAME or COLLECTIVE=NAME,...",
                            where, text);
    }
    const std::string_view algorithm =
        name == "auto" ? std::string_view() : find_algorithm(name)->name;
    const std::string_view what = equals == item.npos ? "" : item.substr(0, equals);
    int c = 0;
    while (c < kScheduledCollectives && what != comm::name_of(static_cast<Collective>(c))) ++c;
    if (equals != item.npos && c == kScheduledCollectives) {
      std::string names;
      for (c = 0; c < kScheduledCollectives; ++c) {
        names += fmt::format("{}{}", c == 0 ? "" : ", ", comm::name_of(static_cast<Collective>(c)));
      }
      fail<InvalidArgument>("{}: no collective is called '{}'; choose one of {}", where, what,
                            names);
    }
    bool& known = c < kScheduledCollectives ? named[static_cast<std::size_t>(c)] : has_others;
    if (std::exchange(known, true)) {
      fail<InvalidArgument>("{}: '{}' names {} twice", where, text,
                            what.empty() ? "the default" : what);
    }
    (what.empty() ? others : wishes[static_cast<std::size_t>(c)]) = algorithm;
  }
  for (std::size_t c = 0; c < wishes.size(); ++c) {
    if (!named[c]) wishes[c] = others;
  }
  return wishes;
}

Planner::Planner(int rank, int world_size, int lanes, const std::string& algorithms, Medium medium,
                 std::shared_ptr<const Tuning> tuning, Bytes scratch, bool crowded,
                 std::shared_ptr<const HostMap> hosts)
    : rank_(rank),
      world_size_(world_size),
      lanes_(lanes),
      default_algorithms_(parse_wishes(algorithms, "algorithm")),
      medium_(medium),
      tuning_(std::move(tuning)),
      scratch_(scratch),
      crowded_(crowded),
      hosts_(std::move(hosts)) {}

std::size_t Planner::RequestHash::operator()(const Request& request) const {
  std::uint64_t hash = static_cast<std::uint64_t>(request.bytes) * 0x9e3779b97f4a7c15ull;
  hash ^= (static_cast<std::uint64_t>(request.collective) << 56) ^
          (static_cast<std::uint64_t>(static_cast<std::uint32_t>(request.root)) << 16) ^
          static_cast<std::uint64_t>(static_cast<std::uint32_t>(request.algorithm)) ^
          (static_cast<std::uint64_t>(request.way) << 48);
  hash *= 0xbf58476d1ce4e5b9ull;
  return static_cast<std::size_t>(hash ^ (hash >> 31));
}

Planned Planner::plan(Collective collective, int root, Bytes bytes, std::string_view algorithm,
                      Way way) {
  const bool wishes = !algorithm.empty() && algorithm != "auto";
  const std::int32_t wished = wishes ? index_of(algorithm) : -1;
  const Request request{collective, root, bytes.value, wished, way};
  const std::lock_guard lock(mutex_);
  if (const auto it = known_.find(request); it != known_.end()) return it->second;

  const Problem problem{collective, rank_, world_size_, is_rooted(collective) ? root : 0, hosts_};
  std::optional<Planned> planned;
  if (way == Way::any) planned = on_memory(problem, bytes, wished);
  if (!planned) planned = by_messages(problem, bytes, wished, way);
  if (known_.size() >= kKnownMax) known_.clear();
  return known_[request] = *planned;
}

Planned Planner::by_messages(const Problem& problem, Bytes bytes, std::int32_t wished, Way way) {
  const Choice choice = pick(problem, bytes, wished, way);
  const auto index = static_cast<std::uint8_t>(index_of(choice.algorithm));
  const PlanKey key{problem.collective, problem.root, index, choice.tiles, choice.fused};
  if (plans_.size() >= kPlansMax && !plans_.contains(key)) {
    known_.clear();
    plans_.clear();
  }
  std::shared_ptr<const Plan>& plan = plans_[key];
  if (!plan) plan = make(problem, choice);
  return {plan, {}, false, index};
}

// Nothing where memory is not shared, or too little of it.
std::optional<Planned> Planner::on_memory(const Problem& problem, Bytes bytes,
                                          std::int32_t wished) {
  if (scratch_.value == 0 || world_size_ == 1 || world_size_ > kMemoryWorldMax) return std::nullopt;
  std::string_view name = wish(problem, wished, Way::any);
  if (name.empty()) name = choose_on_memory(problem, bytes, crowded_, *tuning_);
  const auto index = static_cast<std::uint8_t>(index_of(name));
  const MemoryKey key{problem.collective, problem.root, index};
  MemoryPlans& plans = memory_plans_[key];
  if (!plans.by_scratch) plans = lower_to_memory(problem, name);
  constexpr std::int64_t kLine = 64;  // each chunk of scratch needs one at least
  if (static_cast<std::int64_t>(plans.by_scratch->scratch_chunks) * kLine > scratch_.value ||
      static_cast<std::int64_t>(plans.everywhere->scratch_chunks) * kLine > scratch_.value) {
    return std::nullopt;
  }
  const bool one_shot = name == "direct" && problem.collective == Collective::all_reduce;
  const bool chooses =
      bytes.value >= kChooseBytes && !one_shot && problem.collective != Collective::barrier;
  return Planned{nullptr, plans, chooses, index};
}

MemoryPlans Planner::lower_to_memory(const Problem& problem, std::string_view algorithm) const {
  std::vector<Schedule> world;
  for (int rank = 0; rank < world_size_; ++rank) {
    Problem theirs = problem;
    theirs.rank = rank;
    world.push_back(find_algorithm(algorithm)->emit(theirs));
  }
  const auto lowered = [&](Reach reach) {
    return std::make_shared<const MemoryPlan>(make_memory_plan(comm::lower(world, reach), rank_));
  };
  return {lowered(Reach::scratch), lowered(Reach::everything)};
}

// The algorithm that the call, or else the communicator, asks for; empty where it is free.
std::string_view Planner::wish(const Problem& problem, std::int32_t wished, Way way) const {
  const auto fits = [&](const Algorithm& algorithm) {
    return algorithm.supports(problem) &&
           (way != Way::compressed || completes_once(algorithm, problem));
  };
  if (wished >= 0) {
    const Algorithm& algorithm = algorithms()[static_cast<std::size_t>(wished)];
    if (!algorithm.supports(problem)) {
      fail<InvalidArgument>(
          "rank {}: {}: algorithm '{}' does not do this on {} ranks{}; choose one of auto, {}",
          rank_, comm::name_of(problem.collective), algorithm.name, world_size_, describe_hosts(),
          names_of([&](const Algorithm& other) { return other.supports(problem); }));
    }
    if (!fits(algorithm)) {
      fail<InvalidArgument>(
          "rank {}: {}: with wire compression algorithm '{}' would give the ranks different bits "
          "(it completes a sum on several of them); choose one of auto, {}, or leave wire out",
          rank_, comm::name_of(problem.collective), algorithm.name, names_of(fits));
    }
    return algorithm.name;
  }
  const std::string_view name = default_algorithms_[static_cast<std::size_t>(problem.collective)];
  if (name.empty() || !fits(*find_algorithm(name))) return {};
  return name;
}

Choice Planner::pick(const Problem& problem, Bytes bytes, std::int32_t wished, Way way) const {
  const std::string_view name = wish(problem, wished, way);
  return name.empty() ? choose(problem, bytes, lanes_, medium_, *tuning_, way == Way::compressed)
                      : choose_tiles(name, problem, bytes, lanes_, *tuning_);
}

std::string Planner::describe_hosts() const {
  if (!hosts_) return "";
  if (hosts_->hosts.size() == 1) return " of one host";
  const HostSizes sizes = host_sizes(*hosts_);
  return fmt::format(" of {} hosts, {} to {} on each", hosts_->hosts.size(), sizes.smallest,
                     sizes.largest);
}

Schedule Planner::lower(Problem problem, const Choice& choice) const {
  Schedule schedule = tile(find_algorithm(choice.algorithm)->emit(problem), choice.tiles);
  if (lanes_ > 1) schedule = stripe(schedule, lanes_);
  return choice.fused ? fuse(schedule) : schedule;
}

std::shared_ptr<const Plan> Planner::make(const Problem& problem, const Choice& choice) const {
  const Schedule mine = lower(problem, choice);
  RingCheck check;
  if (world_size_ > 1) {
    Problem previous = problem;
    previous.rank = (rank_ + world_size_ - 1) % world_size_;
    check.send = !greets_next_rank(mine);
    check.recv = !greets_next_rank(lower(previous, choice));
  }
  return std::make_shared<const Plan>(make_plan(mine, check));
}

std::shared_ptr<const Plan> Planner::message(bool sends, int peer, Bytes bytes) {
  const std::int64_t wanted = (bytes.value + kSegmentBytes - 1) / kSegmentBytes;
  const auto segments = static_cast<std::int64_t>(
      std::bit_ceil(static_cast<std::uint64_t>(std::clamp<std::int64_t>(wanted, 1, kSegmentsMax))));
  const std::int64_t key = (segments * world_size_ + peer) * 2 + (sends ? 1 : 0);
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const Plan>& plan = messages_[key];
  if (!plan) {
    plan = std::make_shared<const Plan>(
        make_point_to_point_plan(sends, peer, static_cast<int>(segments)));
  }
  return plan;
}

}  // namespace weft::comm
