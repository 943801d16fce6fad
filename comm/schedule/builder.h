// Writes a schedule step by step, in an order that would be right if run one by one; the builder
// finds which steps really depend on which (read after write, write after read, write after write,
// on overlapping chunks, input and output taken as aliased where in-place use makes them so). An
// algorithm therefore never writes `after` by hand.
#pragma once

#include <string>
#include <vector>

#include "comm/schedule/schedule.h"

namespace weft::comm {

enum class Completes : bool { no, yes };

class Builder {
 public:
  Builder(const Problem& problem, std::string algorithm, int chunks_per_block);

  Slice input(int chunk, int count = 1) const { return {Buffer::input, chunk, count}; }
  Slice output(int chunk, int count = 1) const { return {Buffer::output, chunk, count}; }
  // Fresh scratch that stands for these chunks of the wide buffer.
  Slice new_scratch(int wide_chunk, int count = 1);

  StepId send(int peer, Slice from, int lane = 0);
  StepId recv(int peer, Slice to, int lane = 0);
  StepId recv_reduce(int peer, Slice from, Slice to, Completes completes, int lane = 0);
  StepId copy(Slice from, Slice to);
  StepId reduce(std::vector<Slice> operands, Slice to, Completes completes);

  // Dependencies are computed here; the builder is spent.
  Schedule finish();

 private:
  StepId add(Step step);
  Schedule schedule_;
};

// Recomputes every `after` of a schedule whose steps are in a right sequential order: for passes
// that rewrite steps.
void compute_dependencies(Schedule& schedule);

}  // namespace weft::comm
