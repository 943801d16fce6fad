// What an operation is, as its frames say it and as errors print it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "comm/schedule/schedule.h"
#include "comm/transport/transport.h"
#include "kernels/base/dtype.h"
#include "kernels/base/units.h"
#include "kernels/reduce.h"

namespace weft::comm {

// The detail of an all_to_all_v: each rank has counts of its own. No fingerprint is even.
inline constexpr std::uint32_t kOwnCounts = 2;

struct Call {
  Collective collective = Collective::barrier;
  DType dtype = DType::u8;
  ReduceOp op = ReduceOp::sum;
  std::uint8_t algorithm = 0;  // index into algorithms()
  std::int32_t root = -1;      // of rooted collectives; the peer of send and recv
  Elems count;                 // of the whole operation, the same on all ranks
  std::uint32_t detail = 0;    // of a v form: fingerprint of the counts, or kOwnCounts
  std::optional<DType> wire;   // f16 or bf16: f32 that travels so (kernels/wire.h)
};

// Both ends of a point-to-point message carry the same tag: it names neither end.
FrameTag tag_of(const Call& call, std::uint32_t sequence);

// "all_reduce #12, 1048576 x f32, sum", "broadcast #5, 10 x f32 sent as bf16, root 2", "barrier
// #7", "all_gather_v #2, 30 x f32, counts 0123abcd", "all_to_all_v #1, f32".
std::string describe(const FrameTag& tag);
// The same; for point to point with direction and peer: "recv #3 from rank 2, 10 x f32".
std::string describe(const Call& call, std::uint32_t sequence, int peer_name);
// "ring"; "algorithm(77)" if none has that code.
std::string algorithm_name(std::uint8_t code);

}  // namespace weft::comm
