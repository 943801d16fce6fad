// What the engine tells the flight recorder and the timeline, where it takes more than a line.
#include "comm/execute/engine.h"

namespace weft::comm {

void Engine::begin_record(Operation& operation) {
  trace::CallFields call;
  call.sequence = operation.sequence;
  call.collective = static_cast<std::uint8_t>(operation.call.collective);
  call.dtype = static_cast<std::uint8_t>(operation.call.dtype);
  call.op = static_cast<std::uint8_t>(operation.call.op);
  call.algorithm = operation.call.algorithm;
  call.root = operation.call.root;
  if (operation.point_to_point()) call.root = supervisor_->name_of(call.root);
  call.count = static_cast<std::uint64_t>(operation.call.count.value);
  call.bytes = call.count * operation.element;
  if (!operation.on_memory) {
    call.steps = static_cast<std::uint32_t>(operation.plan->nodes.size());
  }
  operation.slot = trace_.begin(call, trace::State::queued);
}

// The message at the head of a queue, done or cut off.
void Engine::trace_message(const Queue& queue, bool cut) {
  const Stream& stream = *queue.head;
  const Operation& operation = *stream.operation;
  const std::int32_t id = stream.messages->nodes[stream.next];
  const Node& node = operation.plan->nodes[static_cast<std::size_t>(id)];
  trace::Event event;
  event.cut = cut;
  event.collective = static_cast<std::uint8_t>(operation.call.collective);
  event.sequence = operation.sequence;
  event.peer = queue.peer;
  event.lane = static_cast<std::int8_t>(stream.messages->lane);
  event.index = node.message;
  const bool kept = queue.sends || node.kind != NodeKind::recv;
  event.bytes = operation.wire_bytes(kept ? node.from : node.to).size();
  trace_.message(queue.since, queue.sends ? trace::EventKind::send : trace::EventKind::receive,
                 event);
}

void Engine::trace_work(trace::Ticks since, const Operation& operation, const Node& node) {
  const bool copies = node.kind == NodeKind::copy;
  const std::int32_t slice = node.kind == NodeKind::recv_reduce ? node.from : node.to;
  trace_.work(since, copies ? trace::EventKind::copy : trace::EventKind::reduce,
              static_cast<std::uint8_t>(operation.call.collective), operation.sequence,
              operation.bytes(slice).size());
}

MemoryRunner::Progress Engine::advance_traced(Operation& operation) {
  const std::uint64_t before = memory_->bytes_sent() + memory_->bytes_received();
  const trace::Ticks since = trace_.stamp();
  const auto progress = memory_->advance(operation.run);
  if (progress == MemoryRunner::Progress::blocked) return progress;
  trace_.work(since, trace::EventKind::move, static_cast<std::uint8_t>(operation.call.collective),
              operation.sequence, memory_->bytes_sent() + memory_->bytes_received() - before);
  return progress;
}

// MemoryRunner::look() with what it does written down.
bool Engine::look_traced(Operation& operation, int looks) {
  trace::Waiting waiting(trace_);
  while (looks > 0) {
    waiting.look();
    const auto progress = advance_traced(operation);
    if (progress == MemoryRunner::Progress::blocked) {
      waiting.idle();
      --looks;
      continue;
    }
    waiting.over();
    if (progress == MemoryRunner::Progress::done) return true;
  }
  return false;
}

// Before anybody is told, or the process could be gone before the dump is whole.
void Engine::trace_failure() {
  for (const Operation* operation : running_) {
    trace_.end(operation->slot, trace::State::failed);
  }
  std::string reason;
  {
    const std::lock_guard lock(mutex_);
    if (verdict_) reason = verdict_->message;
  }
  trace_.failed(reason);
}

}  // namespace weft::comm
