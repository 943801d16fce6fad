#include "comm/cuda/island.h"

#include <algorithm>
#include <array>
#include <bit>

namespace weft::comm {

namespace {

namespace cuda = kernels::cuda;

// What is worth a lane, and a thread of it.
constexpr std::int64_t kLaneBytes = 16 << 10;
constexpr std::int64_t kThreadBytes = 16;

std::uint64_t mix(std::uint64_t value) {
  value ^= value >> 32;
  value *= 0xd6e8feb86659fd93ull;
  return value ^ (value >> 32);
}

void say(const FrameTag& tag, std::uint64_t (&words)[4]) {
  const auto bits = std::bit_cast<std::array<std::uint64_t, 4>>(tag);
  std::copy(bits.begin(), bits.end(), words);
}

std::uint64_t fingerprint_of(const FrameTag& tag) {
  std::uint64_t hash = 0x9e3779b97f4a7c15ull;
  for (const std::uint64_t word : std::bit_cast<std::array<std::uint64_t, 4>>(tag)) {
    hash = mix(hash ^ word);
  }
  return hash;
}

std::int32_t ceil_div(std::int64_t a, std::int64_t b) {
  return static_cast<std::int32_t>((a + b - 1) / b);
}

std::int32_t threads_for(std::int64_t bytes_of_lane) {
  const std::int64_t wanted = (bytes_of_lane / kThreadBytes + 31) / 32 * 32;
  return static_cast<std::int32_t>(
      std::clamp<std::int64_t>(wanted, cuda::kLaneThreadsMin, cuda::kLaneThreadsMax));
}

// What a member gives to a collective, where every block is `block` elements.
Bytes contribution_of(const IslandCall& call) { return bytes_of(call.block, call.call.dtype); }

bool has_one_block(Collective collective) {
  return collective == Collective::all_reduce || collective == Collective::reduce ||
         collective == Collective::broadcast || collective == Collective::barrier;
}

}  // namespace

Island::Island(std::shared_ptr<cuda_ipc::Group> group, int lanes, const std::string& algorithms,
               std::shared_ptr<const Tuning> tuning)
    : group_(std::move(group)),
      words_(group_->device()),
      lanes_(lanes),
      planner_(*group_, words_, algorithms, std::move(tuning)) {}

FrameTag Island::run(const IslandCall& call, const cuda::Finish& finish, cuda::Stream stream,
                     bool capturing) {
  const CudaChoice choice = planner_.choose(call.call.collective, call.call.root, call.wide_bytes,
                                            contribution_of(call), call.algorithm);
  IslandCall chosen = call;
  chosen.call.algorithm = choice.algorithm;
  const FrameTag tag = tag_of(chosen.call, 0);
  const cuda::DeviceGuard guard(group_->device());
  if (choice.small) {
    run_small(chosen, tag, finish, stream);
  } else {
    run_program(chosen, tag, finish, stream, capturing);
  }
  return tag;
}

void Island::run_small(const IslandCall& call, const FrameTag& tag, const cuda::Finish& finish,
                       cuda::Stream stream) {
  cuda::SmallCall small{};
  switch (call.call.collective) {
    case Collective::all_gather:
      small.kind = cuda::Small::gather;
      break;
    case Collective::broadcast:
      small.kind = cuda::Small::broadcast;
      break;
    case Collective::barrier:
      small.kind = cuda::Small::barrier;
      break;
    default:
      small.kind = cuda::Small::fold;
  }
  const bool folds = small.kind == cuda::Small::fold;
  small.dtype = folds ? call.call.dtype : DType::u8;
  small.op = call.call.op;
  small.divisor = group_->size();
  small.root = call.call.root;
  small.bytes = contribution_of(call).size();
  small.input = call.buffers.input;
  small.output = call.buffers.output;
  say(tag, small.tag);
  small.fingerprint = fingerprint_of(tag);
  small.finish = finish;
  const std::int64_t units = (static_cast<std::int64_t>(small.bytes) + 7) / 8;
  small.lanes = std::clamp<std::int32_t>(ceil_div(units, cuda::kLaneThreadsMax), 1, lanes_);
  small.threads = threads_for(ceil_div(units, small.lanes) * kThreadBytes);
  cuda::run_small(group_->party(), small, stream);
}

void Island::run_program(const IslandCall& call, const FrameTag& tag, const cuda::Finish& finish,
                         cuda::Stream stream, bool capturing) {
  const Call& what = call.call;
  const CudaPlan& plan = planner_.plan(what.collective, what.root, what.algorithm, capturing);
  cuda::CollectiveCall kernel{};
  kernel.chooses = true;
  // What is only moved is moved as bytes.
  const bool folds = is_reducing(what.collective);
  kernel.dtype = folds ? what.dtype : DType::u8;
  const Elems block = folds ? call.block : Elems(contribution_of(call).value);
  kernel.op = what.op;
  kernel.divisor = group_->size();
  kernel.lanes = std::clamp<std::int32_t>(ceil_div(call.wide_bytes.value, kLaneBytes), 1, lanes_);
  kernel.threads = threads_for(call.wide_bytes.value / kernel.lanes);
  kernel.block = block.size();
  kernel.by_scratch = plan.scratch_program;
  kernel.everywhere = plan.everywhere_program;
  const Bytes scratch(static_cast<std::int64_t>(group_->layout().scratch_bytes));
  const auto part = [&](const CudaProgram& program) {
    return static_cast<std::uint64_t>(
        part_of_lane(program, block, kernel.dtype, kernel.lanes, scratch));
  };
  kernel.by_scratch.part = part(plan.by_scratch);
  kernel.everywhere.part = part(plan.everywhere);
  kernel.input = call.buffers.input;
  kernel.output = call.buffers.output;
  const Bytes narrow = contribution_of(call);
  const bool one_block = has_one_block(what.collective);
  const bool scatters = what.collective == Collective::reduce_scatter ||
                        what.collective == Collective::scatter ||
                        what.collective == Collective::all_to_all;
  const bool gathers = what.collective == Collective::all_gather ||
                       what.collective == Collective::gather ||
                       what.collective == Collective::all_to_all;
  kernel.input_post = group_->post(kernel.input, !one_block && scatters ? call.wide_bytes : narrow);
  kernel.output_post =
      group_->post(kernel.output, !one_block && gathers ? call.wide_bytes : narrow);
  say(tag, kernel.tag);
  kernel.fingerprint = fingerprint_of(tag);
  kernel.finish = finish;
  cuda::run_collective(group_->party(), kernel, stream);
}

FrameTag Island::message(const Call& call, void* data, const cuda::Finish& finish,
                         cuda::Stream stream) {
  const FrameTag tag = tag_of(call, 0);
  cuda::MessageCall message{};
  message.peer = call.root;
  message.bytes = bytes_of(call.count, call.dtype).size();
  const auto bytes = static_cast<std::int64_t>(message.bytes);
  const int most = std::min(lanes_, group_->layout().message_lanes);
  message.lanes = std::clamp<std::int32_t>(ceil_div(bytes, kLaneBytes), 1, most);
  message.threads = threads_for(bytes / message.lanes);
  message.data = data;
  say(tag, message.tag);
  message.finish = finish;
  const cuda::DeviceGuard guard(group_->device());
  if (call.collective == Collective::send) {
    cuda::send_message(group_->party(), message, stream);
  } else {
    cuda::receive_message(group_->party(), message, stream);
  }
  return tag;
}

}  // namespace weft::comm
