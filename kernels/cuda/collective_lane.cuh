// How a lane of a collective kernel enters, waits for others, tells them, fails and leaves
// (collective.h). Every function is called by all threads of the block alike.
#pragma once

#include "kernels/cuda/collective.h"
#include "kernels/cuda/launch.cuh"

#include "hardware.cuh"

namespace weft::kernels::cuda::collective {

// Waits look at flags this often before they look at the ledger and the desk, and pause.
inline constexpr int kSpins = 64;
inline constexpr int kSpinsBetweenDesks = 16;  // rounds of kSpins: the desk is across the bus
inline constexpr unsigned kPauseNs = 200;

struct Lane {  // in shared memory
  std::uint64_t epoch;
  std::uint64_t fingerprint;
  std::uint64_t before;  // the fingerprint of the epoch before
  std::uint64_t tag[4];
  std::uint64_t known[kMembersMax];  // progress in this epoch and lane, as last seen
  std::uint32_t announces;           // the first of the member's lanes to begin tells of its call
  std::uint32_t stop;
};

__device__ inline Lobby* lobby_of(const Party& party, int member) {
  return reinterpret_cast<Lobby*>(party.arenas[member]);
}

__device__ inline void copy_tag(std::uint64_t* to, const std::uint64_t* from) {
  for (int i = 0; i < 4; ++i) to[i] = from[i];
}

__device__ inline bool has_failed(const Party& party) {
  return *static_cast<const volatile std::uint32_t*>(&party.ledger->failed) != 0;
}

// One thread. The first failure of the member's lanes is told.
__device__ inline void fail(const Party& party, Lane& lane, Trouble trouble, int peer,
                            std::uint64_t epoch, const std::uint64_t* ours,
                            const std::uint64_t* theirs = nullptr) {
  lane.stop = 1;
  if (atomicCAS(&party.ledger->failed, 0u, 1u) != 0) return;
  Desk* const desk = party.desk;
  desk->peer = peer;
  desk->epoch = epoch;
  copy_tag(desk->ours, ours);
  if (theirs != nullptr) copy_tag(desk->theirs, theirs);
  fence_system();
  store_release_system(&desk->trouble, static_cast<std::uint32_t>(trouble));
}

// One thread: `peer` has entered `epoch`; true if with another call, which is then told.
__device__ inline bool differs(const Party& party, Lane& lane, int peer, std::uint64_t epoch,
                               std::uint64_t fingerprint) {
  Lobby* const mine = lobby_of(party, party.self);
  const Arrival* const theirs = &mine->arrivals[epoch & 1][peer];
  if (load_acquire_system(&theirs->progress) >> kPositionBits != epoch) return false;
  if (load_acquire_system(&theirs->fingerprint) == fingerprint) return false;
  const bool now = epoch == lane.epoch;  // what was said before lies where it was said
  fail(party, lane, Trouble::mismatch, peer, epoch,
       now ? lane.tag : mine->visits[epoch & 1][party.self].tag, mine->visits[epoch & 1][peer].tag);
  return true;
}

// One thread: whether to give up waiting for `peer`. `turn` counts its looks.
__device__ inline bool gives_up(const Party& party, Lane& lane, int peer, unsigned turn) {
  if (has_failed(party)) {
    lane.stop = 1;
    return true;
  }
  if (lane.epoch != 0 && differs(party, lane, peer, lane.epoch, lane.fingerprint)) return true;
  if (turn % kSpinsBetweenDesks != 0) return false;
  const Desk* const desk = party.desk;
  if (load_acquire_system(&desk->abort) != 0) {
    fail(party, lane, Trouble::aborted, peer, lane.epoch, lane.tag);
    return true;
  }
  return false;
}

__device__ inline bool is_gone(const Party& party, int peer) {
  return (load_acquire_system(&party.desk->gone) >> peer & 1) != 0;
}

// One thread: until done() or the end. done() is asked once more after `peer` is known to be gone:
// it may have come so far just before.
template <class Done>
__device__ inline bool wait_until(const Party& party, Lane& lane, int peer, Done done) {
  for (unsigned turn = 1;; ++turn) {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (done()) return true;
    }
    if (gives_up(party, lane, peer, turn)) return false;
    if (turn % kSpinsBetweenDesks == 0 && is_gone(party, peer)) {
      if (done()) return true;
      if (!differs(party, lane, peer, lane.epoch, lane.fingerprint)) {
        fail(party, lane, Trouble::gone, peer, lane.epoch, lane.tag);
      }
      return false;
    }
    pause_ns(kPauseNs);
  }
}

// One thread: until `peer` has said of this epoch, at `progress`, that it has come to `wanted`.
__device__ inline bool wait_at(const Party& party, Lane& lane, int peer,
                               const std::uint64_t* progress, std::uint64_t wanted) {
  std::uint64_t found = 0;
  const auto there = [&] {
    found = load_acquire_system(progress);
    return found >= wanted;
  };
  if (!wait_until(party, lane, peer, there)) return false;
  if (found >> kPositionBits != lane.epoch) {
    fail(party, lane, Trouble::damaged, peer, lane.epoch, lane.tag);
    return false;
  }
  return true;
}

// One thread: until this lane of `peer` has come to `wanted`.
__device__ inline bool wait_for(const Party& party, Lane& lane, int peer, std::uint64_t wanted) {
  const Lobby* const mine = lobby_of(party, party.self);
  return wait_at(party, lane, peer, &mine->progress[lane.epoch & 1][peer][blockIdx.x], wanted);
}

// All threads: whether the lane goes on. All get the same answer: who is past the barrier may stop
// the lane while others still ask.
__device__ inline bool goes_on(const Lane& lane) {
  const bool stop = *static_cast<const volatile std::uint32_t*>(&lane.stop) != 0;
  return __syncthreads_or(stop ? 1 : 0) == 0;
}

// What all threads have done before is seen by whoever sees this.
__device__ inline void publish(const Party& party, const Lane& lane, std::uint64_t position) {
  __syncthreads();
  const int peer = static_cast<int>(threadIdx.x);
  if (peer >= party.size || peer == party.self) return;
  std::uint64_t* const at =
      &lobby_of(party, peer)->progress[lane.epoch & 1][party.self][blockIdx.x];
  store_release_system(at, lane.epoch << kPositionBits | position);
}

// Enters the next epoch once everybody has entered the one before. What was said then is compared.
template <class Call>
__device__ inline bool enter(const Party& party, Lane& lane, const Call& call,
                             std::uint64_t input_post, std::uint64_t output_post) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    lane.epoch = party.ledger->epoch + 1;
    lane.fingerprint = call.fingerprint;
    lane.before = party.ledger->fingerprints[(lane.epoch - 1) & 1];
    copy_tag(lane.tag, call.tag);
    lane.announces = atomicAdd(&party.ledger->lanes_begun, 1u) == 0 ? 1 : 0;
    lane.stop = party.ledger->failed;
  }
  if (thread < party.size) lane.known[thread] = 0;
  if (!goes_on(lane)) return false;
  const std::uint64_t epoch = lane.epoch;
  const bool other = thread < party.size && thread != party.self;
  Lobby* const mine = lobby_of(party, party.self);
  if (epoch > 1 && other) {
    // Only what differs now is to be named, and that in the epoch before.
    const std::uint64_t before = epoch - 1;
    const std::uint64_t* const progress = &mine->arrivals[before & 1][thread].progress;
    const bool there = wait_until(party, lane, thread, [&] {
      return load_acquire_system(progress) >= before << kPositionBits;
    });
    if (there && lane.announces != 0) differs(party, lane, thread, before, lane.before);
  }
  if (!goes_on(lane)) return false;
  if (lane.announces != 0 && thread < party.size) {
    Lobby* const theirs = lobby_of(party, thread);
    Visit* const visit = &theirs->visits[epoch & 1][party.self];
    copy_tag(visit->tag, call.tag);
    visit->input = input_post;
    visit->output = output_post;
    Arrival* const arrival = &theirs->arrivals[epoch & 1][party.self];
    arrival->fingerprint = call.fingerprint;
    store_release_system(&arrival->progress, epoch << kPositionBits);
  }
  if (lane.announces != 0 && thread == 0) {
    party.ledger->fingerprints[epoch & 1] = call.fingerprint;
    store_volatile(&party.desk->entered, epoch);
  }
  publish(party, lane, 0);
  return true;
}

// Until all members have entered this epoch with the same call.
__device__ inline void meet(const Party& party, Lane& lane) {
  const int peer = static_cast<int>(threadIdx.x);
  if (peer >= party.size || peer == party.self) return;
  const Arrival& theirs = lobby_of(party, party.self)->arrivals[lane.epoch & 1][peer];
  if (wait_at(party, lane, peer, &theirs.progress, lane.epoch << kPositionBits)) {
    differs(party, lane, peer, lane.epoch, lane.fingerprint);
  }
}

// All threads; true for one thread of the last lane to come here. `counter` is zero again then.
__device__ inline bool is_last(std::uint32_t* counter) {
  __syncthreads();
  if (threadIdx.x != 0) return false;
  __threadfence();
  if (atomicAdd(counter, 1u) + 1 != gridDim.x) return false;
  __threadfence();
  *counter = 0;
  return true;
}

// One thread, when all lanes are through.
__device__ inline void tell(const Finish& finish, bool badly) {
  if (finish.word == nullptr) return;
  fence_system();
  store_release_system(finish.word, finish.value | (badly ? kFinishedBadly : 0));
}

// The last lane to leave ends the epoch.
__device__ inline void leave(const Party& party, const Lane& lane, const Finish& finish) {
  if (!is_last(&party.ledger->lanes_done)) return;
  party.ledger->lanes_begun = 0;
  party.ledger->epoch = lane.epoch;
  store_release_system(&party.desk->finished, lane.epoch);
  tell(finish, has_failed(party));
}

}  // namespace weft::kernels::cuda::collective
