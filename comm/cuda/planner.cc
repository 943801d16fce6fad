#include "comm/cuda/planner.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "comm/algorithms/algorithms.h"
#include "comm/passes/lower.h"
#include "kernels/base/error.h"

namespace weft::comm {

namespace {

namespace cuda = kernels::cuda;

constexpr std::size_t kPoolBytes = std::size_t{2} << 20;
constexpr std::chrono::seconds kUploadWait{20};

std::uint8_t index_of(std::string_view name) {
  const auto all = algorithms();
  std::size_t i = 0;
  while (all[i].name != name) ++i;
  return static_cast<std::uint8_t>(i);
}

std::string supported(const Problem& problem) {
  std::string names;
  for (const Algorithm& algorithm : algorithms()) {
    if (!algorithm.supports(problem)) continue;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", algorithm.name);
  }
  return names;
}

// What can go by flags beside the data.
bool may_be_small(Collective collective) {
  return collective == Collective::all_reduce || collective == Collective::all_gather ||
         collective == Collective::broadcast || collective == Collective::barrier;
}

std::size_t rounded(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

CudaPlanner::CudaPlanner(const cuda_ipc::Group& group, FinishWords& words,
                         const std::string& algorithms, std::shared_ptr<const Tuning> tuning)
    : group_(group),
      words_(words),
      default_algorithms_(parse_wishes(algorithms, "algorithm")),
      tuning_(std::move(tuning)) {
  set_small_limit(Bytes(static_cast<std::int64_t>(tuning_->cuda_small_bytes)));
}

Bytes CudaPlanner::small_limit() const {
  return Bytes(small_bytes_.load(std::memory_order_relaxed));
}

void CudaPlanner::set_small_limit(Bytes limit) {
  const auto room = static_cast<std::int64_t>(group_.layout().small_bytes);
  small_bytes_.store(std::min(limit.value, room), std::memory_order_relaxed);
}

std::string_view CudaPlanner::wish(const Problem& problem, std::string_view algorithm) const {
  if (!algorithm.empty() && algorithm != "auto") {
    const Algorithm* const found = find_algorithm(algorithm);
    if (found == nullptr || !found->supports(problem)) {
      fail<InvalidArgument>(
          "rank {}: {} on CUDA memory: algorithm '{}' does not do this on {} ranks of one host; "
          "choose one of auto, {}",
          group_.rank_of(group_.self()), comm::name_of(problem.collective), algorithm,
          problem.world_size, supported(problem));
    }
    return algorithm;
  }
  const std::string_view name = default_algorithms_[static_cast<std::size_t>(problem.collective)];
  return name.empty() || !find_algorithm(name)->supports(problem) ? std::string_view() : name;
}

CudaChoice CudaPlanner::choose(Collective collective, int root, Bytes bytes, Bytes contribution,
                               std::string_view algorithm) const {
  const Problem problem{collective, group_.self(), group_.size(), is_rooted(collective) ? root : 0};
  std::string_view name = wish(problem, algorithm);
  if (name.empty()) name = choose_on_cuda(problem, bytes, *tuning_);
  const bool small = may_be_small(collective) && contribution <= small_limit() && name == "direct";
  return {index_of(name), small};
}

std::unique_ptr<CudaPlan> CudaPlanner::make(const Problem& problem,
                                            std::string_view algorithm) const {
  std::vector<Schedule> world;
  for (int member = 0; member < group_.size(); ++member) {
    Problem theirs = problem;
    theirs.rank = member;
    world.push_back(find_algorithm(algorithm)->emit(theirs));
  }
  auto plan = std::make_unique<CudaPlan>();
  plan->by_scratch = encode_for_cuda(lower(world, Reach::scratch), group_.self());
  plan->everywhere = encode_for_cuda(lower(world, Reach::everything), group_.self());
  constexpr std::int64_t kAlign = 128;  // each chunk of scratch needs as much at least
  for (const CudaProgram* program : {&plan->by_scratch, &plan->everywhere}) {
    if (program->scratch_chunks * kAlign <=
        static_cast<std::int64_t>(group_.layout().scratch_bytes)) {
      continue;
    }
    fail<InvalidArgument>(
        "rank {}: {} on CUDA memory: algorithm '{}' needs more scratch on {} ranks than there is; "
        "choose direct, or leave the choice to weft",
        group_.rank_of(group_.self()), comm::name_of(problem.collective), algorithm, group_.size());
  }
  return plan;
}

const CudaPlan& CudaPlanner::plan(Collective collective, int root, std::uint8_t algorithm,
                                  bool capturing) {
  const int whose = is_rooted(collective) ? root : 0;
  const std::lock_guard lock(mutex_);
  std::unique_ptr<CudaPlan>& plan = plans_[{collective, whose, algorithm}];
  if (!plan) {
    auto made =
        make({collective, group_.self(), group_.size(), whose}, algorithms()[algorithm].name);
    made->scratch_program = upload(made->by_scratch, capturing);
    made->everywhere_program = upload(made->everywhere, capturing);
    plan = std::move(made);
  }
  return *plan;
}

// Room for `bytes` in device memory; its counterpart in pinned memory lies at the same offset.
std::byte* CudaPlanner::place(std::size_t bytes, bool capturing) {
  if (pools_.empty() || used_ + bytes > kPoolBytes) {
    if (capturing) {
      fail<Unsupported>(
          "rank {}: a collective of this kind is captured into a CUDA graph before it was ever "
          "called: make the call once before capturing",
          group_.rank_of(group_.self()));
    }
    const cuda::DeviceGuard guard(group_.device());
    const Bytes size(static_cast<std::int64_t>(std::max(kPoolBytes, bytes)));
    const int device = group_.device();
    pools_.emplace_back(static_cast<std::byte*>(cuda::allocate(size)), [device](std::byte* data) {
      const cuda::DeviceGuard at_home(device);
      cuda::release(data);
    });
    staging_.emplace_back(size);
    used_ = 0;
  }
  std::byte* const at = pools_.back().get() + used_;
  used_ += bytes;
  return at;
}

// Waits for the copy without asking CUDA, which another thread's capture might forbid.
cuda::Program CudaPlanner::upload(const CudaProgram& program, bool capturing) {
  const std::size_t instructions = program.instructions.size() * sizeof(cuda::Instruction);
  const std::size_t operands = program.operands.size() * sizeof(cuda::Operand);
  const std::size_t bytes = rounded(instructions) + rounded(operands);
  std::byte* const to = place(bytes, capturing);
  std::byte* const from = staging_.back().data() + (to - pools_.back().get());
  std::memcpy(from, program.instructions.data(), instructions);
  std::memcpy(from + rounded(instructions), program.operands.data(), operands);
  const cuda::DeviceGuard guard(group_.device());
  cuda::copy_async(to, from, Bytes(static_cast<std::int64_t>(bytes)), group_.stream());
  const cuda::Finish finish = words_.take();
  cuda::write_host(finish.word, finish.value, group_.stream());
  const auto until = std::chrono::steady_clock::now() + kUploadWait;
  while (!FinishWords::is_done(finish)) {
    if (std::chrono::steady_clock::now() > until) {
      fail<IoError>("rank {}: device {} does not answer: nothing was copied to it for {} s",
                    group_.rank_of(group_.self()), group_.device(), kUploadWait.count());
    }
    std::this_thread::yield();
  }
  words_.give_back(finish);
  cuda::Program uploaded{};
  uploaded.instructions = reinterpret_cast<const cuda::Instruction*>(to);
  uploaded.operands = reinterpret_cast<const cuda::Operand*>(to + rounded(instructions));
  uploaded.count = static_cast<std::int32_t>(program.instructions.size());
  uploaded.stages = program.stages;
  uploaded.chunks_per_block = program.chunks_per_block;
  uploaded.scratch_chunks = program.scratch_chunks;
  return uploaded;
}

}  // namespace weft::comm
