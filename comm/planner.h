// From a call to a plan: picks the algorithm, emits, tiles, fuses and stripes its schedule, or
// lowers it to memory where all ranks can address each other's, and keeps what came out for the
// next call of the kind. Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "comm/execute/memory_plan.h"
#include "comm/execute/plan.h"
#include "comm/schedule/schedule.h"
#include "comm/select/select.h"
#include "kernels/base/units.h"

namespace weft::comm {

struct Planned {
  std::shared_ptr<const Plan> plan;  // null: on memory
  MemoryPlans memory;
  bool chooses = false;        // worth asking whether all ranks' buffers are mapped by all
  std::uint8_t algorithm = 0;  // index into algorithms()
};

// "auto" or the name of an algorithm; throws InvalidArgument listing the choices, prefixed by
// `where`.
void check_algorithm(std::string_view name, const std::string& where);

// By collective; empty: chosen by size.
using AlgorithmWishes = std::array<std::string_view, kScheduledCollectives>;
// "ring", or "all_reduce=ring,broadcast=tree", or both: a name alone is for the collectives that
// are not named. Throws as check_algorithm() does.
AlgorithmWishes parse_wishes(const std::string& text, const std::string& where);

// How a call may be carried out. by_messages: never on memory. compressed: by messages of halves
// (CallOptions::wire), and an all-reduce must complete each chunk on one rank.
enum class Way : std::uint8_t { any, by_messages, compressed };

class Planner {
 public:
  // `scratch`: of one half of each rank's shared scratch; 0 where memory is not shared.
  Planner(int rank, int world_size, int lanes, const std::string& algorithms, Medium medium,
          std::shared_ptr<const Tuning> tuning, Bytes scratch, bool crowded,
          std::shared_ptr<const HostMap> hosts = nullptr);

  // `bytes`: of the wide buffer as it travels, the same on all ranks. `algorithm`: the call's own
  // wish, or empty; it must support the problem, while the communicator's default gives way where
  // it does not.
  Planned plan(Collective collective, int root, Bytes bytes, std::string_view algorithm,
               Way way = Way::any);
  // One message of so many bytes.
  std::shared_ptr<const Plan> message(bool sends, int peer, Bytes bytes);

 private:
  struct Request {
    Collective collective;
    std::int32_t root;
    std::int64_t bytes;
    std::int32_t algorithm;  // wished for, or -1
    Way way;
    bool operator==(const Request&) const = default;
  };
  struct RequestHash {
    std::size_t operator()(const Request& request) const;
  };
  struct PlanKey {
    Collective collective;
    std::int32_t root;
    std::uint8_t algorithm;
    std::int32_t tiles;
    bool fused;
    auto operator<=>(const PlanKey&) const = default;
  };

  struct MemoryKey {
    Collective collective;
    std::int32_t root;
    std::uint8_t algorithm;
    auto operator<=>(const MemoryKey&) const = default;
  };

  std::string_view wish(const Problem& problem, std::int32_t wished, Way way) const;
  Choice pick(const Problem& problem, Bytes bytes, std::int32_t wished, Way way) const;
  std::string describe_hosts() const;
  Planned by_messages(const Problem& problem, Bytes bytes, std::int32_t wished, Way way);
  std::optional<Planned> on_memory(const Problem& problem, Bytes bytes, std::int32_t wished);
  MemoryPlans lower_to_memory(const Problem& problem, std::string_view algorithm) const;
  Schedule lower(Problem problem, const Choice& choice) const;
  std::shared_ptr<const Plan> make(const Problem& problem, const Choice& choice) const;

  int rank_;
  int world_size_;
  int lanes_;
  AlgorithmWishes default_algorithms_;
  Medium medium_;
  std::shared_ptr<const Tuning> tuning_;
  Bytes scratch_;
  bool crowded_;
  std::shared_ptr<const HostMap> hosts_;  // null: nothing known
  std::mutex mutex_;
  std::unordered_map<Request, Planned, RequestHash> known_;
  std::map<PlanKey, std::shared_ptr<const Plan>> plans_;
  std::map<MemoryKey, MemoryPlans> memory_plans_;
  std::map<std::int64_t, std::shared_ptr<const Plan>> messages_;
};

}  // namespace weft::comm
