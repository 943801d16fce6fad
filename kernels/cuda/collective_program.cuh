// The interpreter: one kernel runs the program of any collective, a block a lane.
#pragma once

#include "kernels/cuda/collective_fold.cuh"
#include "kernels/cuda/collective_lane.cuh"

namespace weft::kernels::cuda::collective {

// Chunks start at multiples of as many bytes from the start of a part.
inline constexpr std::uint64_t kChunkAlign = 128;

// What a lane needs of its program besides the Lane, in shared memory.
struct Work {
  std::byte* inputs[kMembersMax];
  std::byte* outputs[kMembersMax];
  std::byte* places[2][kOperandsMax];
  std::uint32_t ordinary;  // some member's buffer is not where others see it
};

// A lane's part of every block, and its chunks.
struct Part {
  std::uint64_t start;  // elements, in the block
  std::uint64_t count;
  std::uint64_t each;    // units of alignment a chunk has
  std::uint64_t more;    // chunks that have one more
  std::uint64_t align;   // elements
  std::uint64_t stride;  // elements of the longest chunk

  __device__ Part(const Program& program, std::uint64_t block, std::uint64_t number,
                  std::uint64_t element) {
    align = kChunkAlign / element;
    start = number * program.part;
    const std::uint64_t left = block > start ? block - start : 0;
    count = left < program.part ? left : program.part;
    const std::uint64_t units = (count + align - 1) / align;
    const auto chunks = static_cast<std::uint64_t>(program.chunks_per_block);
    each = units / chunks;
    more = units % chunks;
    stride = (each + (more > 0 ? 1 : 0)) * align;
  }
  __device__ std::uint64_t begin(std::uint64_t chunk) const {
    const std::uint64_t unit = chunk * each + (chunk < more ? chunk : more);
    return unit * align < count ? unit * align : count;
  }
};

// One thread a member: where this member has what `member` posted.
__device__ inline std::byte* locate(const Party& party, int member, std::uint64_t post) {
  if (post == kPostAbsent || post == kPostOrdinary) return nullptr;
  const std::uint64_t segment = post >> kPostOffsetBits;
  const std::uint64_t offset = post & kPostOffsetMask;
  if (segment == kPostAddress >> kPostOffsetBits) return reinterpret_cast<std::byte*>(offset);
  if (segment >= kSegmentsMax) return nullptr;
  std::byte* const base =
      party.segments[segment * kMembersMax + static_cast<std::uint64_t>(member)];
  return base == nullptr ? nullptr : base + offset;
}

// Whether all members' buffers are where all see them. Everybody looks at the same posts.
__device__ inline bool all_are_seen(const Party& party, const Lane& lane,
                                    const CollectiveCall& call, Work& work) {
  const int member = static_cast<int>(threadIdx.x);
  if (member == 0) work.ordinary = 0;
  __syncthreads();
  if (member < party.size) {
    const bool own = member == party.self;
    const Visit& visit = lobby_of(party, party.self)->visits[lane.epoch & 1][member];
    const std::uint64_t input = own ? call.input_post : visit.input;
    const std::uint64_t output = own ? call.output_post : visit.output;
    if (input == kPostOrdinary || output == kPostOrdinary) work.ordinary = 1;
    work.inputs[member] =
        own ? static_cast<std::byte*>(const_cast<void*>(call.input)) : locate(party, member, input);
    work.outputs[member] =
        own ? static_cast<std::byte*>(call.output) : locate(party, member, output);
  }
  __syncthreads();
  return call.chooses && work.ordinary == 0;
}

__device__ inline std::byte* place_of(const Party& party, const Work& work, const Program& program,
                                      const CollectiveCall& call, const Part& part,
                                      std::uint64_t round, Operand operand, std::uint64_t element) {
  const auto chunk = static_cast<std::uint64_t>(operand.chunk);
  if (operand.at == At::scratch) {
    const std::uint64_t slot = static_cast<std::uint64_t>(blockIdx.x) * 2 + (round & 1);
    return party.arenas[operand.member] + party.scratch_offset + slot * party.scratch_bytes +
           chunk * part.stride * element;
  }
  const auto per_block = static_cast<std::uint64_t>(program.chunks_per_block);
  std::byte* const base =
      operand.at == At::input ? work.inputs[operand.member] : work.outputs[operand.member];
  const std::uint64_t begin =
      chunk / per_block * call.block + part.start + part.begin(chunk % per_block);
  return base + begin * element;
}

// All threads: until all of an await's members have come so far.
__device__ inline bool await(const Party& party, Lane& lane, const Program& program,
                             const Instruction& step, std::uint64_t base) {
  const int k = static_cast<int>(threadIdx.x);
  if (k < step.value) {
    const Operand wish = program.operands[step.first + k];
    const std::uint64_t wanted =
        lane.epoch << kPositionBits | (base + static_cast<std::uint64_t>(wish.chunk));
    if (lane.known[wish.member] < wanted && wait_for(party, lane, wish.member, wanted)) {
      lane.known[wish.member] = wanted;
    }
  }
  return goes_on(lane);
}

template <class T>
__device__ inline bool run_part(const Party& party, Lane& lane, Work& work, const Program& program,
                                const CollectiveCall& call, std::uint64_t number,
                                std::uint64_t round) {
  const Part part(program, call.block, number, sizeof(T));
  const std::uint64_t base = round * static_cast<std::uint64_t>(program.stages);
  int turn = 0;
  for (int i = 0; i < program.count; ++i) {
    const Instruction step = program.instructions[i];
    if (step.kind == Do::publish) {
      publish(party, lane, base + static_cast<std::uint64_t>(step.value));
      continue;
    }
    if (step.kind == Do::await) {
      if (!await(party, lane, program, step, base)) return false;
      continue;
    }
    const auto chunk = static_cast<std::uint64_t>(step.value);
    const std::uint64_t count = part.begin(chunk + 1) - part.begin(chunk);
    if (count == 0) continue;
    // Two sets of places take turns, so that one barrier a move is enough.
    std::byte** const places = work.places[turn ^= 1];
    const int width = static_cast<int>(blockDim.x);
    for (int k = static_cast<int>(threadIdx.x); k < step.sources + step.targets; k += width) {
      places[k] = place_of(party, work, program, call, part, round,
                           program.operands[step.first + k], sizeof(T));
    }
    __syncthreads();
    const bool divides = step.completes && call.op == ReduceOp::avg;
    move_elements<T>({places, step.sources, step.targets}, count, call.op, divides, call.divisor);
  }
  return true;
}

// Round r of a lane uses the scratch of round r - 2: all must have begun r - 1.
__device__ inline bool begin_round(const Party& party, Lane& lane, const Program& program,
                                   std::uint64_t round) {
  if (round == 0) return true;
  const int peer = static_cast<int>(threadIdx.x);
  const auto stages = static_cast<std::uint64_t>(program.stages);
  if (program.scratch_chunks > 0 && round > 1 && peer < party.size && peer != party.self) {
    const std::uint64_t wanted = lane.epoch << kPositionBits | (round - 1) * stages;
    if (lane.known[peer] < wanted && wait_for(party, lane, peer, wanted)) {
      lane.known[peer] = wanted;
    }
  }
  if (!goes_on(lane)) return false;
  publish(party, lane, round * stages);
  return true;
}

template <class T>
__global__ void __launch_bounds__(kLaneThreadsMax)
    run_program(const Party party, const CollectiveCall call) {
  __shared__ Lane lane;
  __shared__ Work work;
  bool whole = enter(party, lane, call, call.input_post, call.output_post);
  if (whole) {
    meet(party, lane);
    whole = goes_on(lane);
  }
  if (whole) {
    const bool seen = all_are_seen(party, lane, call, work);
    const Program& program = seen ? call.everywhere : call.by_scratch;
    const std::uint64_t parts =
        call.block == 0 ? 1 : (call.block + program.part - 1) / program.part;
    std::uint64_t round = 0;
    for (std::uint64_t part = blockIdx.x; part < parts && whole; part += gridDim.x, ++round) {
      whole = begin_round(party, lane, program, round) &&
              run_part<T>(party, lane, work, program, call, part, round);
    }
  }
  leave(party, lane, call.finish);
}

}  // namespace weft::kernels::cuda::collective
