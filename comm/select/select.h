// Which algorithm for which size, when nobody said: a cost model of latency and bandwidth.
//
// A pure function of its arguments, none of which depends on the rank, so all ranks agree.
#pragma once

#include <span>
#include <string_view>

#include "comm/schedule/schedule.h"
#include "comm/select/tuning.h"
#include "kernels/base/units.h"

namespace weft::comm {

struct Choice {
  std::string_view algorithm;  // a name of algorithms()
  int tiles = 1;               // for tile()
  bool fused = false;          // whether to fuse()
};

// `bytes`: of the wide buffer (wide_buffer()) as a whole; of all_to_all, which knows only its own
// side, it is ignored. `problem.rank` is ignored. `once`: only among completes_once().
// What the tuning has measured wins, then what the model expects to be the fastest. Where
// problem.hosts tells of several hosts, the medium's costs are those of one host's link to the
// others, shared by its ranks, and those of messages in memory are inside a host.
Choice choose(const Problem& problem, Bytes bytes, int lanes = 1, Medium medium = Medium::tcp,
              const Tuning& tuning = built_in_tuning(), bool once = false);

// Where all ranks can address each other's memory; `bytes` as in choose(). crowded: ranks share
// cores, so that waiting for one another takes microseconds.
std::string_view choose_on_memory(const Problem& problem, Bytes bytes, bool crowded,
                                  const Tuning& tuning = built_in_tuning());

// The same of CUDA memory.
std::string_view choose_on_cuda(const Problem& problem, Bytes bytes,
                                const Tuning& tuning = built_in_tuning());

// Whichever of the three is meant; of one connection a pair of ranks. crowded: of memory.
Choice choose_over(Medium medium, const Problem& problem, Bytes bytes, bool crowded,
                   const Tuning& tuning = built_in_tuning());

// How an algorithm named by the user is to be cut for this size.
Choice choose_tiles(std::string_view algorithm, const Problem& problem, Bytes bytes, int lanes = 1,
                    const Tuning& tuning = built_in_tuning());

// Whether choose() considers it at this size: all_reduce and reduce by `direct` give every rank n
// operands of scratch.
bool fits_scratch(std::string_view algorithm, const Problem& problem, Bytes bytes);

// The algorithms that choose_on_memory() compares; others only where they were measured.
std::span<const std::string_view> candidates_on_memory(const Problem& problem);

// Seconds the model expects; for tests and for `weft bench`'s reports.
double expected_seconds(std::string_view algorithm, const Problem& problem, Bytes bytes,
                        const LinkCosts& costs, const LinkCosts& inside = kMemoryCosts);

// The same on memory, of one of candidates_on_memory(). registered: buffers that the others map,
// which need no staging unless the algorithm is one-shot.
double expected_seconds_on_memory(std::string_view algorithm, const Problem& problem, Bytes bytes,
                                  bool crowded, const SharedCosts& costs, bool registered = false);
// What choose_on_memory() compares: the mean of ordinary and registered buffers, because the choice
// is made before the ranks know what the others' are.
double deciding_seconds_on_memory(std::string_view algorithm, const Problem& problem, Bytes bytes,
                                  bool crowded, const SharedCosts& costs);

}  // namespace weft::comm
