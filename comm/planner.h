// From a call to a plan: picks the algorithm, emits, tiles, fuses and stripes its schedule, and
// keeps what came out for the next call of the kind. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "comm/execute/plan.h"
#include "comm/schedule/schedule.h"
#include "comm/select/select.h"
#include "kernels/base/units.h"

namespace weft::comm {

struct Planned {
  std::shared_ptr<const Plan> plan;
  std::uint8_t algorithm = 0;  // index into algorithms()
};

// "auto" or the name of an algorithm; throws InvalidArgument listing the choices, prefixed by
// `where`.
void check_algorithm(std::string_view name, const std::string& where);

class Planner {
 public:
  Planner(int rank, int world_size, int lanes, std::string default_algorithm,
          const LinkCosts& costs);

  // `bytes`: of the wide buffer as it travels, the same on all ranks. `algorithm`: the call's own
  // wish, or empty; it must support the problem, while the communicator's default gives way where
  // it does not. `compresses`: the call has a wire type, so an all-reduce must complete each chunk
  // on one rank.
  Planned plan(Collective collective, int root, Bytes bytes, std::string_view algorithm,
               bool compresses = false);
  // One message of so many bytes.
  std::shared_ptr<const Plan> message(bool sends, int peer, Bytes bytes);

 private:
  struct Request {
    Collective collective;
    std::int32_t root;
    std::int64_t bytes;
    std::int32_t algorithm;  // wished for, or -1
    bool compresses;
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

  Choice pick(const Problem& problem, Bytes bytes, std::int32_t wished, bool compresses) const;
  Schedule lower(Problem problem, const Choice& choice) const;
  std::shared_ptr<const Plan> make(const Problem& problem, const Choice& choice) const;

  int rank_;
  int world_size_;
  int lanes_;
  std::string default_algorithm_;
  LinkCosts costs_;
  std::mutex mutex_;
  std::unordered_map<Request, Planned, RequestHash> known_;
  std::map<PlanKey, std::shared_ptr<const Plan>> plans_;
  std::map<std::int64_t, std::shared_ptr<const Plan>> messages_;
};

}  // namespace weft::comm
