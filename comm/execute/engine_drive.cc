// The driver's half of the engine: link queues, local steps, and what to do when something breaks.
#include <algorithm>
#include <cstring>
#include <utility>

#include "comm/execute/engine.h"
#include "comm/execute/wire.h"
#include "kernels/base/check.h"
#include "kernels/wire.h"

namespace weft::comm {

namespace {

bool is_local(const Node& node) {
  return node.kind == NodeKind::copy || node.kind == NodeKind::reduce;
}

}  // namespace

Engine::Queue& Engine::queue_of(const MessageList& messages) {
  const int link = messages.peer * (mesh_->lanes() + 1) + messages.lane + 1;
  return queues_[static_cast<std::size_t>(link * 2 + (messages.sends ? 0 : 1))];
}

void Engine::drive_until(const Operation* target, bool background) {
  pace_.start(background);
  trace::Waiting waiting(trace_);
  for (;;) {
    if (attention_.load(std::memory_order_acquire)) attend();
    if (target != nullptr ? target->done : running_.empty()) {
      if (target != nullptr || !attention_.load(std::memory_order_acquire)) return;
      continue;
    }
    waiting.look();
    if (step()) {
      waiting.over();
      continue;
    }
    waiting.idle();
    if (pace_.poll_again()) continue;
    try {
      mesh_->prepare_wait();
      waiting.look();
      if (attention_.load(std::memory_order_acquire) || step()) {
        mesh_->cancel_wait();
        waiting.over();
        continue;
      }
      const trace::Ticks blocked = trace_.stamp();
      mesh_->wait(watch_interval());
      trace_.waited(blocked, trace::EventKind::block);
      watch();
    } catch (const Error& error) {
      settle(trouble_of(error));
    }
    pace_.blocked();
  }
}

// One look at everything. True if something moved.
bool Engine::step() {
  try {
    bool moved = round();
    if (!memory_queue_.empty()) moved |= advance_memory();
    if (!with_ready_.empty()) {
      run_ready();
      moved = true;
    }
    if (moved) pace_.moved();
    return moved;
  } catch (const Error& error) {
    settle(trouble_of(error));
  } catch (const std::exception& error) {
    settle({ErrorCode::io, mesh_->rank(), error.what(), first_in_flight()});
  }
  return true;
}

// Takes what was submitted meanwhile, or fails everything if that is what was asked for.
void Engine::attend() {
  std::vector<Operation*> submitted;
  bool graceful = false;
  {
    const std::lock_guard lock(mutex_);
    graceful = graceful_;
    attention_.store(false, std::memory_order_relaxed);
    submitted.swap(submitted_);
  }
  if (failed()) {
    running_.insert(running_.end(), submitted.begin(), submitted.end());
    if (!graceful || !running_.empty()) fail_running();
    return;
  }
  for (Operation* operation : submitted) {
    if (!stopped_) {
      issue(operation);
    } else {
      running_.push_back(operation);
    }
  }
  if (stopped_ && !running_.empty()) fail_running();
}

// What goes wrong here is told to all: the other ranks may be in this operation already.
void Engine::issue(Operation* operation) {
  running_.push_back(operation);
  try {
    enqueue(operation);
  } catch (const std::exception& error) {
    settle({ErrorCode::io, mesh_->rank(), error.what(), describe(*operation)});
    return;
  }
  if (operation->nodes_left == 0) finish(operation, nullptr);
}

void Engine::enqueue(Operation* operation) {
  trace_.run(operation->slot);
  if (operation->on_memory) {
    memory_queue_.push_back(operation);
    return;
  }
  operation->scratch = arena_.take(operation->scratch_bytes);
  operation->bases[static_cast<int>(Buffer::scratch)] = operation->scratch.data();
  for (Stream& stream : operation->streams) {
    Queue& queue = queue_of(*stream.messages);
    if (queue.head == nullptr) {
      queue.head = queue.tail = &stream;
    } else {
      queue.tail->later = &stream;
      queue.tail = &stream;
    }
    if (!queue.listed) {
      queue.listed = true;
      active_.push_back(&queue);
    }
  }
  if (!operation->ready.empty()) {
    operation->listed = true;
    with_ready_.push_back(operation);
  }
}

bool Engine::round() {
  bool moved = false;
  mesh_->refresh();
  for (std::size_t i = 0; i < active_.size();) {
    Queue& queue = *active_[i];
    current_ = &queue;
    moved |= queue.sends ? advance_sends(queue) : advance_receives(queue);
    current_ = nullptr;
    if (queue.head == nullptr) {
      queue.listed = false;
      active_[i] = active_.back();
      active_.pop_back();
    } else {
      ++i;
    }
  }
  return moved;
}

bool Engine::advance_sends(Queue& queue) {
  bool moved = false;
  while (queue.head != nullptr) {
    Stream& stream = *queue.head;
    Operation& operation = *stream.operation;
    const std::int32_t id = stream.messages->nodes[stream.next];
    const Node& node = operation.plan->nodes[static_cast<std::size_t>(id)];
    const Bytes bytes = operation.wire_bytes(node.from);
    if (!queue.started) {
      if (operation.waits[static_cast<std::size_t>(id)] != 0) break;
      FrameTag tag = operation.tag;
      tag.index = node.message;
      std::byte* data = nullptr;
      if (node.temporary >= 0) {
        data = operation.temporaries[static_cast<std::size_t>(node.temporary)].data();
      } else if (node.from != kNoSlice) {
        data = operation.address(node.from);
      }
      queue.started = moved = true;
      queue.since = trace_.stamp();
      queue.link->start_send(tag, message_of(operation, node, data, queue.staging, arena_), bytes);
    }
    if (!queue.link->poll_send()) break;
    if (queue.since != 0) trace_message(queue, false);
    queue.started = false;
    moved = true;
    counters_.bytes_sent.fetch_add(bytes.size(), std::memory_order_relaxed);
    if (node.temporary >= 0) {
      arena_.give(std::move(operation.temporaries[static_cast<std::size_t>(node.temporary)]));
    }
    if (++stream.next == stream.messages->nodes.size()) queue.head = stream.later;
    complete(operation, id);
  }
  return moved;
}

bool Engine::advance_receives(Queue& queue) {
  bool moved = false;
  while (queue.head != nullptr) {
    Stream& stream = *queue.head;
    Operation& operation = *stream.operation;
    const std::int32_t id = stream.messages->nodes[stream.next];
    const Node& node = operation.plan->nodes[static_cast<std::size_t>(id)];
    if (!queue.started) {
      if (operation.waits[static_cast<std::size_t>(id)] != 0) break;
      queue.started = moved = true;
      queue.since = trace_.stamp();
      begin_receive(queue, operation, node);
    }
    const void* data = queue.link->poll_recv();
    if (data == nullptr) break;
    take_message(operation, node, data);
    queue.link->finish_recv();
    if (queue.since != 0) trace_message(queue, false);
    queue.started = false;
    moved = true;
    if (++stream.next == stream.messages->nodes.size()) queue.head = stream.later;
    complete(operation, id);
  }
  return moved;
}

void Engine::begin_receive(Queue& queue, Operation& operation, const Node& node) {
  FrameTag tag = operation.tag;
  tag.index = node.message;
  const bool encoded = operation.call.wire.has_value();
  if (node.kind == NodeKind::recv && !encoded) {
    void* into = node.to == kNoSlice ? nullptr : operation.address(node.to);
    queue.link->start_recv(tag, into, operation.bytes(node.to), false);
    return;
  }
  const Bytes bytes = operation.wire_bytes(node.kind == NodeKind::recv ? node.to : node.from);
  std::byte* into = nullptr;
  if (!queue.link->always_views(bytes)) {
    Chunk& chunk = node.temporary >= 0 && !encoded
                       ? operation.temporaries[static_cast<std::size_t>(node.temporary)]
                       : queue.staging;
    reserve(chunk, bytes, arena_);
    into = chunk.data();
  }
  queue.link->start_recv(tag, into, bytes, true);
}

void Engine::take_message(Operation& operation, const Node& node, const void* data) {
  const std::int32_t slice = node.kind == NodeKind::recv ? node.to : node.from;
  const Elems count = operation.count(slice);
  const std::optional<DType> wire = operation.call.wire;
  counters_.bytes_received.fetch_add(operation.wire_bytes(slice).size(), std::memory_order_relaxed);
  if (count.value == 0) return;
  if (node.kind != NodeKind::recv_reduce) {
    if (wire) kernels::wire_decode(operation.address(node.to), data, *wire, count);
    return;
  }
  const trace::Ticks since = trace_.stamp();
  void* out = nullptr;
  if (node.temporary >= 0) {
    Chunk& chunk = operation.temporaries[static_cast<std::size_t>(node.temporary)];
    if (chunk.capacity() == 0) chunk = arena_.take(operation.bytes(slice));
    out = chunk.data();
  } else {
    out = operation.address(node.to);
  }
  const void* const inputs[] = {data, operation.address(node.from)};
  const bool divides = node.completes && operation.call.op == ReduceOp::avg;
  const ReduceOp op =
      operation.call.op == ReduceOp::avg && !divides ? ReduceOp::sum : operation.call.op;
  if (wire) {
    kernels::wire_reduce(out, data, *wire, inputs[1], count, op, mesh_->size(),
                         rounds_result(operation, node));
  } else {
    kernels::reduce(out, inputs, count, operation.call.dtype, op, mesh_->size());
  }
  if (since != 0) trace_work(since, operation, node);
}

// One local step; links come first, so that the network works meanwhile.
void Engine::run_ready() {
  Operation& operation = *with_ready_.back();
  const std::int32_t id = operation.ready.back();
  operation.ready.pop_back();
  if (operation.ready.empty()) {
    operation.listed = false;
    with_ready_.pop_back();
  }
  const Node& node = operation.plan->nodes[static_cast<std::size_t>(id)];
  const trace::Ticks since = trace_.stamp();
  run_local(operation, node);
  if (since != 0) trace_work(since, operation, node);
  complete(operation, id);
}

void Engine::run_local(Operation& operation, const Node& node) {
  const Elems count = operation.count(node.to);
  if (count.value == 0) return;
  void* out = operation.address(node.to);
  if (node.kind == NodeKind::copy) {
    const void* from = operation.address(node.from);
    if (from != out) std::memcpy(out, from, operation.bytes(node.to).size());
    if (rounds_result(operation, node)) kernels::wire_round(out, *operation.call.wire, count);
    return;
  }
  constexpr std::int32_t kOnStack = 64;
  const void* few[kOnStack];
  std::vector<const void*> many;
  const void** inputs = few;
  if (node.operands > kOnStack) {
    many.resize(static_cast<std::size_t>(node.operands));
    inputs = many.data();
  }
  for (std::int32_t k = 0; k < node.operands; ++k) {
    inputs[k] = operation.address(node.first_operand + k);
  }
  const bool divides = node.completes && operation.call.op == ReduceOp::avg;
  const ReduceOp op =
      operation.call.op == ReduceOp::avg && !divides ? ReduceOp::sum : operation.call.op;
  kernels::reduce(out, {inputs, static_cast<std::size_t>(node.operands)}, count,
                  operation.call.dtype, op, mesh_->size());
  if (rounds_result(operation, node)) kernels::wire_round(out, *operation.call.wire, count);
}

void Engine::complete(Operation& operation, std::int32_t id) {
  const Plan& plan = *operation.plan;
  const Node& node = plan.nodes[static_cast<std::size_t>(id)];
  trace_.steps(operation.slot, ++operation.nodes_done);
  for (std::int32_t k = 0; k < node.dependents; ++k) {
    const std::int32_t later = plan.dependents[static_cast<std::size_t>(node.first_dependent + k)];
    if (--operation.waits[static_cast<std::size_t>(later)] != 0) continue;
    if (!is_local(plan.nodes[static_cast<std::size_t>(later)])) continue;
    operation.ready.push_back(later);
    if (!operation.listed) {
      operation.listed = true;
      with_ready_.push_back(&operation);
    }
  }
  if (--operation.nodes_left == 0) finish(&operation, nullptr);
}

void Engine::finish(Operation* operation, std::exception_ptr error) {
  running_.erase(std::find(running_.begin(), running_.end(), operation));
  trace_.end(operation->slot, error ? trace::State::failed : trace::State::complete);
  arena_.give(std::exchange(operation->scratch, Chunk()));
  if (const auto completion = operation->completion) {
    release(std::unique_ptr<Operation>(operation));
    completion->complete(error);
    return;
  }
  operation->error = error;
  if (operation == target_) {
    operation->done = true;  // its caller is this thread
    return;
  }
  const std::lock_guard lock(mutex_);
  operation->done = true;
  changed_.notify_all();
}

void Engine::fail_running() {
  if (!stopped_) {
    stopped_ = true;
    mesh_->sever();  // from here on nothing touches the buffers of the operations
  }
  for (Queue& queue : queues_) {
    if (queue.started && queue.since != 0) trace_message(queue, true);
    queue.head = queue.tail = nullptr;
    queue.started = queue.listed = false;
  }
  active_.clear();
  with_ready_.clear();
  memory_queue_.clear();
  const std::exception_ptr failure = final_failure();
  trace_failure();
  while (!running_.empty()) finish(running_.back(), failure);
}

}  // namespace weft::comm
