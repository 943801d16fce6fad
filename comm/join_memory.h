// How the ranks of one host agree, through the store, to share memory.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/rendezvous/store.h"
#include "comm/transport/shm/host.h"

namespace weft::comm {

struct MemoryCandidates {
  std::vector<int> ranks;  // of the communicator, on this host, ascending
  int self = 0;            // index of this one
  int lanes = 1;
  std::vector<int> names;  // by rank: its rank in the job, for messages
  bool required = false;   // no other way is allowed
};

// What a rank says of its memory: where it is, or what went wrong, or nothing.
struct MemoryWord {
  std::string trouble;  // "": none
  std::optional<shm::Invitation> invitation;
};
Blob encode(const MemoryWord& mine);
// Corrupt if that is none.
MemoryWord decode_memory_word(std::span<const std::uint8_t> bytes);

// Gives every rank's blob, in rank order; called by all ranks of the communicator alike.
using Exchange = std::function<std::vector<Blob>(const std::string& what, const Blob& mine)>;

// Called by all ranks, also those that are alone on their host. Gives nullptr where memory is not
// shared; if it was required, all ranks throw IoError naming the one that could not, and why.
std::shared_ptr<shm::Host> join_memory(const MemoryCandidates& candidates,
                                       const Exchange& exchange);

}  // namespace weft::comm
