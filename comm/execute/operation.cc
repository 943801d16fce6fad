#include "comm/execute/operation.h"

#include <utility>

#include "comm/schedule/layout.h"

namespace weft::comm {

namespace {
constexpr std::int64_t kLineBytes = 64;  // chunks do not share cache lines
}

void Completion::wait() const {
  done_.wait(0, std::memory_order_acquire);
  if (auto failure = error()) std::rethrow_exception(failure);
}

std::exception_ptr Completion::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void Completion::then(std::function<void(std::exception_ptr)> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (done_.load(std::memory_order_relaxed) == 0) {
      callbacks_.push_back(std::move(callback));
      return;
    }
  }
  callback(error());
}

std::chrono::nanoseconds Completion::duration() const {
  const std::lock_guard lock(mutex_);
  if (done_.load(std::memory_order_relaxed) == 0) return std::chrono::nanoseconds(0);
  return end_ - start_;
}

void Completion::complete(std::exception_ptr error) {
  std::vector<std::function<void(std::exception_ptr)>> callbacks;
  {
    const std::lock_guard lock(mutex_);
    error_ = error;
    end_ = Clock::now();
    done_.store(1, std::memory_order_release);
    callbacks.swap(callbacks_);
  }
  done_.notify_all();
  for (const auto& callback : callbacks) callback(error);
}

void Operation::adopt(std::shared_ptr<const Plan> new_plan, const Call& new_call) {
  on_memory = false;
  plan = std::move(new_plan);
  call = new_call;
  element = size_of(call.dtype).size();
  wire_element = call.wire ? size_of(*call.wire).size() : element;
}

void Operation::bind_uniform(std::shared_ptr<const Plan> new_plan, const Call& new_call,
                             Elems input_block, Elems output_block) {
  const bool bound = !on_memory && plan == new_plan && call.dtype == new_call.dtype &&
                     uniform_input_ == input_block && uniform_output_ == output_block;
  adopt(std::move(new_plan), new_call);
  if (bound) return;
  const Problem& problem = plan->schedule.problem;
  const std::vector<Elems> inputs(static_cast<std::size_t>(block_count(problem, Buffer::input)),
                                  input_block);
  const std::vector<Elems> outputs(static_cast<std::size_t>(block_count(problem, Buffer::output)),
                                   output_block);
  place_slices(inputs, outputs);
  uniform_input_ = input_block;
  uniform_output_ = output_block;
}

void Operation::bind_blocks(std::shared_ptr<const Plan> new_plan, const Call& new_call,
                            std::span<const Elems> input_blocks,
                            std::span<const Elems> output_blocks) {
  adopt(std::move(new_plan), new_call);
  uniform_input_ = uniform_output_ = Elems(-1);
  place_slices(input_blocks, output_blocks);
}

void Operation::place_slices(std::span<const Elems> input_blocks,
                             std::span<const Elems> output_blocks) {
  const Elems align(kLineBytes / static_cast<std::int64_t>(element));
  const Layout layout(plan->schedule, input_blocks, output_blocks, align);
  places.clear();
  for (const Slice& slice : plan->slices) {
    const ElemRange range = layout.range(slice);
    places.push_back({slice.buffer, bytes_of(range.begin, call.dtype), range.count()});
  }
  scratch_bytes = bytes_of(layout.size(Buffer::scratch), call.dtype);
}

void Operation::bind_message(std::shared_ptr<const Plan> new_plan, const Call& new_call) {
  adopt(std::move(new_plan), new_call);
  uniform_input_ = uniform_output_ = Elems(-1);
  places.clear();
  scratch_bytes = Bytes(0);
  const auto segments = static_cast<std::int64_t>(plan->slices.size());
  // count / segments each, and one more for the first count % segments: no product can overflow.
  const std::int64_t each = call.count.value / segments;
  const std::int64_t more = call.count.value % segments;
  std::int64_t begin = 0;
  for (std::int64_t k = 0; k < segments; ++k) {
    const std::int64_t length = each + (k < more ? 1 : 0);
    places.push_back({plan->slices[static_cast<std::size_t>(k)].buffer,
                      bytes_of(Elems(begin), call.dtype), Elems(length)});
    begin += length;
  }
}

void Operation::bind_memory(const MemoryPlans& plans, const Call& new_call,
                            std::span<const Elems> inputs, std::span<const Elems> outputs,
                            Bytes shared_scratch, bool chooses) {
  run.by_scratch.bind(plans.by_scratch, inputs, outputs, new_call.dtype, shared_scratch);
  if (chooses) {
    run.everywhere.bind(plans.everywhere, inputs, outputs, new_call.dtype, shared_scratch);
  }
  run.plans = plans;
  run.chooses = chooses;
  run.dtype = new_call.dtype;
  const auto total = [&](std::span<const Elems> blocks) {
    Elems sum;
    for (const Elems block : blocks) sum += block;
    return bytes_of(sum, new_call.dtype);
  };
  run.input_bytes = total(inputs);
  run.output_bytes = total(outputs);
}

void Operation::bind_memory_uniform(const MemoryPlans& plans, const Call& new_call,
                                    Elems input_block, Elems output_block, Bytes shared_scratch,
                                    bool chooses) {
  const bool bound = on_memory && run.plans.by_scratch == plans.by_scratch &&
                     call.dtype == new_call.dtype && run.chooses == chooses &&
                     uniform_input_ == input_block && uniform_output_ == output_block;
  on_memory = true;
  plan = nullptr;
  call = new_call;
  tag = run.tag = tag_of(call, 0);
  run.op = new_call.op;
  if (bound) return;
  const Problem& problem = plans.by_scratch->schedule.problem;
  const std::vector<Elems> inputs(static_cast<std::size_t>(block_count(problem, Buffer::input)),
                                  input_block);
  const std::vector<Elems> outputs(static_cast<std::size_t>(block_count(problem, Buffer::output)),
                                   output_block);
  bind_memory(plans, new_call, inputs, outputs, shared_scratch, chooses);
  uniform_input_ = input_block;
  uniform_output_ = output_block;
}

void Operation::bind_memory_blocks(const MemoryPlans& plans, const Call& new_call,
                                   std::span<const Elems> input_blocks,
                                   std::span<const Elems> output_blocks, Bytes shared_scratch) {
  on_memory = true;
  plan = nullptr;
  call = new_call;
  tag = run.tag = tag_of(call, 0);
  run.op = new_call.op;
  uniform_input_ = uniform_output_ = Elems(-1);
  bind_memory(plans, new_call, input_blocks, output_blocks, shared_scratch, false);
}

void Operation::arm(const Buffers& buffers) {
  nodes_done = 0;
  nodes_seen = -1;
  quiet_since = {};
  next_notice = std::chrono::milliseconds(0);
  listed = false;
  done = false;
  error = nullptr;
  if (on_memory) {
    nodes_left = 1;
    run.arm(buffers.input, buffers.output);
    return;
  }
  // Inputs are only read: one array of bases keeps address() simple.
  bases[static_cast<int>(Buffer::input)] =
      static_cast<std::byte*>(const_cast<void*>(buffers.input));
  bases[static_cast<int>(Buffer::output)] = static_cast<std::byte*>(buffers.output);
  bases[static_cast<int>(Buffer::scratch)] = nullptr;
  waits.assign(plan->waits.begin(), plan->waits.end());
  streams.resize(plan->messages.size());
  for (std::size_t i = 0; i < streams.size(); ++i) {
    streams[i] = {this, &plan->messages[i], 0, nullptr};
  }
  temporaries.clear();
  temporaries.resize(static_cast<std::size_t>(plan->temporaries));
  ready.assign(plan->first_local.begin(), plan->first_local.end());
  nodes_left = static_cast<std::int64_t>(plan->nodes.size());
}

}  // namespace weft::comm
