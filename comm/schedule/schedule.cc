#include "comm/schedule/schedule.h"

#include <fmt/format.h>

#include <iterator>

#include "comm/schedule/cells.h"

namespace weft::comm {

const char* name_of(Collective collective) {
  switch (collective) {
    case Collective::all_reduce:
      return "all_reduce";
    case Collective::reduce:
      return "reduce";
    case Collective::broadcast:
      return "broadcast";
    case Collective::all_gather:
      return "all_gather";
    case Collective::reduce_scatter:
      return "reduce_scatter";
    case Collective::gather:
      return "gather";
    case Collective::scatter:
      return "scatter";
    case Collective::all_to_all:
      return "all_to_all";
    case Collective::barrier:
      return "barrier";
    case Collective::send:
      return "send";
    case Collective::recv:
      return "recv";
  }
  return "unknown collective";  // a number that came over the wire
}

bool is_rooted(Collective collective) {
  return collective == Collective::reduce || collective == Collective::broadcast ||
         collective == Collective::gather || collective == Collective::scatter;
}

bool is_reducing(Collective collective) {
  return collective == Collective::all_reduce || collective == Collective::reduce ||
         collective == Collective::reduce_scatter;
}

const char* name_of(StepKind kind) {
  switch (kind) {
    case StepKind::send:
      return "send";
    case StepKind::recv:
      return "recv";
    case StepKind::recv_reduce:
      return "recv_reduce";
    case StepKind::copy:
      return "copy";
    case StepKind::reduce:
      return "reduce";
    case StepKind::recv_send:
      return "recv_send";
    case StepKind::recv_reduce_send:
      return "recv_reduce_send";
  }
  return "unknown step";
}

std::int32_t block_count(const Problem& problem, Buffer buffer) {
  const bool input = buffer == Buffer::input;
  switch (problem.collective) {
    case Collective::reduce_scatter:
    case Collective::scatter:
      return input ? problem.world_size : 1;
    case Collective::all_gather:
    case Collective::gather:
      return input ? 1 : problem.world_size;
    case Collective::all_to_all:
      return problem.world_size;
    default:
      return 1;
  }
}

Buffer wide_buffer(Collective collective) {
  return collective == Collective::reduce_scatter || collective == Collective::scatter
             ? Buffer::input
             : Buffer::output;
}

std::int32_t chunk_count(const Schedule& schedule, Buffer buffer) {
  if (buffer == Buffer::scratch) return static_cast<std::int32_t>(schedule.scratch.size());
  return block_count(schedule.problem, buffer) * schedule.chunks_per_block;
}

CellMap::CellMap(const Schedule& schedule, bool in_place)
    : CellMap(schedule.problem, schedule.chunks_per_block, chunk_count(schedule, Buffer::scratch),
              in_place) {}

CellMap::CellMap(const Problem& problem, std::int32_t chunks_per_block, std::int32_t scratch_chunks,
                 bool in_place) {
  const std::int32_t inputs = block_count(problem, Buffer::input) * chunks_per_block;
  const std::int32_t outputs = block_count(problem, Buffer::output) * chunks_per_block;
  const std::int32_t own = problem.rank * chunks_per_block;
  std::int32_t& input = offsets_[static_cast<std::size_t>(Buffer::input)];
  std::int32_t& output = offsets_[static_cast<std::size_t>(Buffer::output)];
  const bool shared = in_place && problem.collective != Collective::all_to_all &&
                      problem.collective != Collective::barrier;
  if (!shared) {
    output = inputs;
    size_ = inputs + outputs;
  } else if (inputs >= outputs) {
    output = inputs > outputs ? own : 0;
    size_ = inputs;
  } else {
    input = own;
    size_ = outputs;
  }
  offsets_[static_cast<std::size_t>(Buffer::scratch)] = size_;
  size_ += scratch_chunks;
}

std::string print(Slice slice) {
  const char* const name = slice.buffer == Buffer::input    ? "in"
                           : slice.buffer == Buffer::output ? "out"
                                                            : "scratch";
  if (slice.count == 0) return "nothing";
  if (slice.count == 1) return fmt::format("{}[{}]", name, slice.chunk);
  return fmt::format("{}[{}..{}]", name, slice.chunk, slice.chunk + slice.count - 1);
}

std::string print(const Step& step, StepId id) {
  std::string line = fmt::format("{} {}", id, name_of(step.kind));
  const auto out = std::back_inserter(line);
  if (receives(step.kind)) fmt::format_to(out, " <{}.{}", step.peer, step.lane);
  if (sends(step.kind)) fmt::format_to(out, " >{}.{}", target_of(step), target_lane_of(step));
  if (reads_from(step.kind)) fmt::format_to(out, " {}", print(step.from));
  for (const Slice& operand : step.operands) fmt::format_to(out, " {}", print(operand));
  if (step.kind != StepKind::send) fmt::format_to(out, " -> {}", print(step.to));
  if (step.completes) line += " completes";
  if (!step.after.empty()) fmt::format_to(out, " after {}", fmt::join(step.after, " "));
  return line;
}

std::string print(const Schedule& schedule) {
  const Problem& problem = schedule.problem;
  std::string text = fmt::format("{} by {}, rank {} of {}", name_of(problem.collective),
                                 schedule.algorithm, problem.rank, problem.world_size);
  if (is_rooted(problem.collective)) text += fmt::format(", root {}", problem.root);
  text += fmt::format(": {} chunks a block, {} scratch chunks, {} lanes\n",
                      schedule.chunks_per_block, schedule.scratch.size(), schedule.lanes);
  StepId id = 0;
  for (const Step& step : schedule.steps) {
    text += print(step, id++);
    text += '\n';
  }
  return text;
}

}  // namespace weft::comm
