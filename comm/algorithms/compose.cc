#include "comm/algorithms/compose.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"

namespace weft::comm {

namespace {

class Embedder {
 public:
  Embedder(Builder& b, const Schedule& inner, const Embedding& embedding)
      : b_(b), inner_(inner), e_(embedding) {
    WEFT_ASSERT(inner.lanes == 1, "striping comes after composing");
    if (!e_.scratch) allocate_scratch();
  }

  void add(const Step& step) {
    for (const Piece& piece : cut(step.to.count > 0 ? step.to : step.from)) add(step, piece);
  }

 private:
  // One stretch of a step: of the inner chunks from number `first` of the step's slices on, the
  // `place`-th of each list.
  struct Piece {
    std::size_t place;
    std::int32_t first;
    std::int32_t last;
    Stretch outer;
  };

  // The chunk of the inner wide buffer that chunk i of a slice stands for.
  std::int32_t wide_chunk(Slice slice, std::int32_t i) const {
    const std::int32_t chunk = slice.chunk + i;
    if (slice.buffer == Buffer::scratch) return inner_.scratch[static_cast<std::size_t>(chunk)];
    const Problem& problem = inner_.problem;
    const Buffer wide = wide_buffer(problem.collective);
    const bool narrow = block_count(problem, slice.buffer) < block_count(problem, wide);
    return narrow ? problem.rank * inner_.chunks_per_block + chunk : chunk;
  }

  std::vector<Piece> cut(Slice payload) const {
    std::vector<Stretches> lists;
    std::size_t places = 0;
    for (std::int32_t i = 0; i < payload.count; ++i) {
      lists.push_back(e_.chunk_of(wide_chunk(payload, i)));
      places = std::max(places, lists.back().size());
    }
    std::vector<Piece> pieces;
    for (std::size_t place = 0; place < places; ++place) {
      for (std::int32_t i = 0; i < payload.count; ++i) {
        const Stretches& list = lists[static_cast<std::size_t>(i)];
        if (place >= list.size()) continue;
        const bool touches = !pieces.empty() && pieces.back().place == place &&
                             pieces.back().last == i - 1 &&
                             pieces.back().outer.end() == list[place].chunk;
        if (touches) {
          pieces.back().last = i;
          pieces.back().outer.count += list[place].count;
        } else {
          pieces.push_back({place, i, i, list[place]});
        }
      }
    }
    return pieces;
  }

  // Place by place, so that pieces of consecutive chunks lie together, as cut() joins them.
  void allocate_scratch() {
    std::vector<Stretches> lists;
    std::size_t places = 0;
    for (const std::int32_t chunk : inner_.scratch) {
      lists.push_back(e_.chunk_of(chunk));
      places = std::max(places, lists.back().size());
    }
    scratch_.assign(places, std::vector<std::int32_t>(lists.size(), -1));
    for (std::size_t place = 0; place < places; ++place) {
      for (std::size_t s = 0; s < lists.size(); ++s) {
        if (place >= lists[s].size()) continue;
        const Stretch stretch = lists[s][place];
        scratch_[place][s] = b_.new_scratch(stretch.chunk, stretch.count).chunk;
      }
    }
  }

  Slice slice(Slice inner, const Piece& piece) const {
    Slice outer;
    switch (inner.buffer) {
      case Buffer::input:
        outer = e_.input(piece.outer);
        break;
      case Buffer::output:
        outer = e_.output(piece.outer);
        break;
      case Buffer::scratch:
        if (e_.scratch) {
          outer = e_.scratch(piece.outer);
        } else {
          const auto s = static_cast<std::size_t>(inner.chunk + piece.first);
          outer = {Buffer::scratch, scratch_[piece.place][s], piece.outer.count};
        }
    }
    WEFT_ASSERT(outer.count == piece.outer.count, "a home is as long as what lives there");
    return outer;
  }

  void add(const Step& step, const Piece& piece) {
    const Completes completes = step.completes && e_.completes ? Completes::yes : Completes::no;
    switch (step.kind) {
      case StepKind::send:
        b_.send(e_.rank_of(step.peer), slice(step.from, piece));
        break;
      case StepKind::recv:
        b_.recv(e_.rank_of(step.peer), slice(step.to, piece));
        break;
      case StepKind::recv_reduce:
        b_.recv_reduce(e_.rank_of(step.peer), slice(step.from, piece), slice(step.to, piece),
                       completes);
        break;
      case StepKind::copy: {
        const Slice from = slice(step.from, piece);
        const Slice to = slice(step.to, piece);
        if (from != to) b_.copy(from, to);
        break;
      }
      case StepKind::reduce: {
        std::vector<Slice> operands;
        for (const Slice& operand : step.operands) operands.push_back(slice(operand, piece));
        b_.reduce(std::move(operands), slice(step.to, piece), completes);
        break;
      }
      case StepKind::recv_send:
      case StepKind::recv_reduce_send:
        WEFT_ASSERT(false, "fusing comes after composing");
    }
  }

  Builder& b_;
  const Schedule& inner_;
  const Embedding& e_;
  std::vector<std::vector<std::int32_t>> scratch_;  // by place and inner scratch chunk
};

}  // namespace

void embed(Builder& b, const Schedule& inner, const Embedding& embedding) {
  Embedder embedder(b, inner, embedding);
  for (const Step& step : inner.steps) embedder.add(step);
}

Shelf::Shelf(Builder& b, std::vector<std::int32_t> chunks) : chunks_(std::move(chunks)) {
  std::sort(chunks_.begin(), chunks_.end());
  bool first = true;
  for (const std::int32_t chunk : chunks_) {
    const Slice slice = b.new_scratch(chunk);
    if (std::exchange(first, false)) first_ = slice.chunk;
  }
}

Slice Shelf::at(Stretch stretch) const {
  const auto found = std::lower_bound(chunks_.begin(), chunks_.end(), stretch.chunk);
  const auto index = static_cast<std::int32_t>(found - chunks_.begin());
  WEFT_ASSERT(found != chunks_.end() && *found == stretch.chunk &&
                  index + stretch.count <= std::ssize(chunks_) &&
                  chunks_[static_cast<std::size_t>(index + stretch.count - 1)] == stretch.end() - 1,
              "the shelf has what is asked of it");
  return {Buffer::scratch, first_ + index, stretch.count};
}

Stretches part_of(const Stretches& all, std::int32_t part, std::int32_t parts) {
  const auto size = static_cast<std::int64_t>(all.size());
  return {all.begin() + size * part / parts, all.begin() + size * (part + 1) / parts};
}

}  // namespace weft::comm
