// Messages between two members. The sender's lanes put pieces into slots of the receiver's arena,
// and the receiver's lanes take them from there; each lane has slots of its own and counts for
// itself. A message has at least one piece on its first lane.
#pragma once

#include "kernels/cuda/collective_fold.cuh"
#include "kernels/cuda/collective_lane.cuh"

namespace weft::kernels::cuda::collective {

__device__ inline std::byte* message_slot(const Party& party, int owner, int from,
                                          std::uint64_t piece) {
  const std::uint64_t lane =
      static_cast<std::uint64_t>(from) * static_cast<std::uint64_t>(party.message_lanes) +
      blockIdx.x;
  return party.arenas[owner] + party.slots_offset +
         (lane * kSlots + piece % kSlots) * party.slot_bytes;
}

// A lane's part of a message, in pieces.
struct Pieces {
  std::uint64_t begin, end, size;

  __device__ Pieces(const Party& party, const MessageCall& call) {
    const std::uint64_t lanes = gridDim.x, align = 128;
    const std::uint64_t part = (call.bytes + lanes * align - 1) / (lanes * align) * align;
    begin = blockIdx.x * part < call.bytes ? blockIdx.x * part : call.bytes;
    end = begin + part < call.bytes ? begin + part : call.bytes;
    size = party.slot_bytes;
  }
  __device__ std::uint64_t count() const {
    const std::uint64_t pieces = (end - begin + size - 1) / size;
    return pieces == 0 && blockIdx.x == 0 ? 1 : pieces;
  }
  __device__ std::uint64_t start(std::uint64_t piece) const { return begin + piece * size; }
  __device__ std::uint64_t bytes(std::uint64_t piece) const {
    const std::uint64_t from = start(piece);
    return end - from < size ? end - from : size;
  }
};

// Messages have no epoch: what is compared is the tag, by the receiver.
__device__ inline bool begin_message(const Party& party, Lane& lane, const MessageCall& call) {
  if (threadIdx.x == 0) {
    lane.epoch = 0;
    copy_tag(lane.tag, call.tag);
    lane.stop = party.ledger->failed;
  }
  return goes_on(lane);
}

// All threads: until *counter is at least `wanted`.
__device__ inline bool await_count(const Party& party, Lane& lane, int peer,
                                   const std::uint64_t* counter, std::uint64_t wanted) {
  if (threadIdx.x == 0) {
    wait_until(party, lane, peer, [&] { return load_acquire_system(counter) >= wanted; });
  }
  return goes_on(lane);
}

__device__ inline void copy_piece(std::byte* const* places, std::uint64_t bytes) {
  copy({places, 1, 1}, bytes);
}

__device__ inline void send_pieces(const Party& party, Lane& lane, const MessageCall& call,
                                   std::byte** places) {
  const Pieces pieces(party, call);
  Lobby* const theirs = lobby_of(party, call.peer);
  const std::uint64_t* const taken = &lobby_of(party, party.self)->taken[call.peer][blockIdx.x];
  const std::uint64_t before = party.ledger->sent[call.peer][blockIdx.x];
  const std::uint64_t number = party.ledger->messages_sent[call.peer];
  for (std::uint64_t k = 0; k < pieces.count(); ++k) {
    const std::uint64_t piece = before + k;
    if (piece >= kSlots && !await_count(party, lane, call.peer, taken, piece + 1 - kSlots)) {
      return;
    }
    if (threadIdx.x == 0) {
      places[0] = static_cast<std::byte*>(call.data) + pieces.start(k);
      places[1] = message_slot(party, call.peer, party.self, piece);
      if (k == 0 && blockIdx.x == 0) {
        copy_tag(theirs->message_tags[number & 1][party.self], call.tag);
      }
    }
    __syncthreads();
    copy_piece(places, pieces.bytes(k));
    __syncthreads();
    if (threadIdx.x == 0) {
      store_release_system(&theirs->filled[party.self][blockIdx.x], piece + 1);
    }
  }
  if (threadIdx.x != 0) return;
  party.ledger->sent[call.peer][blockIdx.x] = before + pieces.count();
  if (blockIdx.x == 0) party.ledger->messages_sent[call.peer] = number + 1;
}

// One thread, once the first piece has come.
__device__ inline void compare_tags(const Party& party, Lane& lane, const MessageCall& call,
                                    std::uint64_t number) {
  const std::uint64_t* const theirs =
      lobby_of(party, party.self)->message_tags[number & 1][call.peer];
  for (int i = 0; i < 4; ++i) {
    if (theirs[i] == call.tag[i]) continue;
    return fail(party, lane, Trouble::mismatch, call.peer, number + 1, lane.tag, theirs);
  }
}

__device__ inline void receive_pieces(const Party& party, Lane& lane, const MessageCall& call,
                                      std::byte** places) {
  const Pieces pieces(party, call);
  const std::uint64_t* const filled = &lobby_of(party, party.self)->filled[call.peer][blockIdx.x];
  std::uint64_t* const taken = &lobby_of(party, call.peer)->taken[party.self][blockIdx.x];
  const std::uint64_t before = party.ledger->received[call.peer][blockIdx.x];
  const std::uint64_t number = party.ledger->messages_received[call.peer];
  for (std::uint64_t k = 0; k < pieces.count(); ++k) {
    const std::uint64_t piece = before + k;
    if (!await_count(party, lane, call.peer, filled, piece + 1)) return;
    if (threadIdx.x == 0) {
      if (k == 0 && blockIdx.x == 0) compare_tags(party, lane, call, number);
      places[0] = message_slot(party, party.self, call.peer, piece);
      places[1] = static_cast<std::byte*>(call.data) + pieces.start(k);
    }
    if (!goes_on(lane)) return;
    copy_piece(places, pieces.bytes(k));
    __syncthreads();
    if (threadIdx.x == 0) store_release_system(taken, piece + 1);
  }
  if (threadIdx.x != 0) return;
  party.ledger->received[call.peer][blockIdx.x] = before + pieces.count();
  if (blockIdx.x == 0) party.ledger->messages_received[call.peer] = number + 1;
}

__global__ void __launch_bounds__(kLaneThreadsMax)
    send_kernel(const Party party, const MessageCall call) {
  __shared__ Lane lane;
  __shared__ std::byte* places[2];
  if (begin_message(party, lane, call)) send_pieces(party, lane, call, places);
  if (is_last(&party.ledger->sending_lanes_done[call.peer])) {
    tell(call.finish, has_failed(party));
  }
}

__global__ void __launch_bounds__(kLaneThreadsMax)
    receive_kernel(const Party party, const MessageCall call) {
  __shared__ Lane lane;
  __shared__ std::byte* places[2];
  if (begin_message(party, lane, call)) receive_pieces(party, lane, call, places);
  if (is_last(&party.ledger->receiving_lanes_done[call.peer])) {
    tell(call.finish, has_failed(party));
  }
}

}  // namespace weft::kernels::cuda::collective
