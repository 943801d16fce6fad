#include "comm/execute/memory_run.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "kernels/base/check.h"

namespace weft::comm {

namespace {

// Pieces of a move after which others get their turn, and after which a failure is noticed.
constexpr std::int64_t kTurnBytes = 512 << 10;
// A value for several targets is made in pieces that the first-level cache still holds when it is
// copied on: storing to several places at once made each store a miss of its own
// (docs/performance).
constexpr std::int64_t kSeveralBytes = 8 << 10;
constexpr int kOnStack = 64;

// By the only writer.
void add(std::atomic<std::uint64_t>& counter, std::size_t more) {
  counter.store(counter.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}

// Tells the core that this is a spin.
void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

std::uint64_t mix(std::uint64_t value) {
  value ^= value >> 32;
  value *= 0xd6e8feb86659fd93ull;
  return value ^ (value >> 32);
}

// Of everything but the sequence and the index of the tag, which are added.
std::uint64_t fingerprint_of(const FrameTag& tag, std::uint32_t sequence, std::int64_t round) {
  const auto words = std::bit_cast<std::array<std::uint64_t, 4>>(tag);
  std::uint64_t hash = 0x9e3779b97f4a7c15ull;
  for (const std::uint64_t word : words) hash = mix(hash ^ word);
  return hash ^ sequence ^ static_cast<std::uint64_t>(round) << 32;
}

}  // namespace

void MemoryRun::arm(const void* new_input, void* new_output) {
  input = new_input;
  output = new_output;
  phase = Phase::entering;
  chosen = &by_scratch;
  round = 0;
  next = 0;
  moved = Elems(0);
  chosen_up_to = 0;
}

MemoryRunner::MemoryRunner(const memory::Group& group)
    : group_(group),
      self_(group.self()),
      size_(group.size()),
      known_(static_cast<std::size_t>(size_)),
      compared_(static_cast<std::size_t>(size_)) {}

MemoryRunner::Progress MemoryRunner::advance(MemoryRun& run) {
  bool moved = false;
  for (;;) {
    switch (run.phase) {
      case MemoryRun::Phase::entering:
        if (!enter(run)) return moved ? Progress::moved : Progress::blocked;
        moved = true;
        run.phase =
            run.chooses && run.round == 0 ? MemoryRun::Phase::choosing : MemoryRun::Phase::running;
        break;
      case MemoryRun::Phase::choosing:
        if (!choose(run)) return moved ? Progress::moved : Progress::blocked;
        run.phase = MemoryRun::Phase::running;
        break;
      case MemoryRun::Phase::running: {
        const Progress progress = run_steps(run);
        if (progress == Progress::blocked && moved) return Progress::moved;
        if (progress != Progress::done) return progress;
        run.next = 0;
        if (++run.round == run.chosen->rounds()) {
          run.phase = MemoryRun::Phase::done;
          // The next call will write there, where the others looked last: fetch it for writing now,
          // so that its publish need not wait for that.
          __builtin_prefetch(&group_.entry(self_, epoch_ + 1), 1);
          __builtin_prefetch(&group_.entry(self_, epoch_ + 1).tag, 1);
          return Progress::done;
        }
        run.phase = MemoryRun::Phase::entering;
        moved = true;
        break;
      }
      case MemoryRun::Phase::done:
        return Progress::done;
    }
  }
}

bool MemoryRunner::look(MemoryRun& run, int looks) {
  while (looks > 0) {
    const Progress progress = advance(run);
    if (progress == Progress::done) return true;
    if (progress == Progress::moved) continue;
    --looks;
    relax();
  }
  return false;
}

// The next epoch begins here once everybody has entered the one before: then all have finished the
// one before that, whose entry and scratch are used again.
bool MemoryRunner::enter(MemoryRun& run) {
  const std::uint64_t before = epoch_;
  for (int peer = 0; before > 0 && peer < size_; ++peer) {
    if (peer == self_) continue;
    const std::uint64_t wanted = before << memory::kStageBits;
    if (known_[static_cast<std::size_t>(peer)] < wanted && !await_slow(peer, wanted)) return false;
  }
  ++epoch_;
  run.chosen->set_round(run.round);
  memory::Entry& entry = group_.entry(self_, epoch_);
  entry.tag = run.tag;
  entry.tag.sequence = run.sequence;
  entry.tag.index = static_cast<std::int32_t>(run.round & 0x7fffffff);
  fingerprints_[epoch_ % 2] = fingerprint_of(run.tag, run.sequence, run.round);
  published_ = false;
  place_scratch(run);
  if (run.chooses && run.round == 0) {
    entry.input = group_.book().post(run.input, run.input_bytes);
    entry.output = group_.book().post(run.output, run.output_bytes);
  }
  if (run.chooses || !run.chosen->plan().enters_late) publish(run, 0);
  return true;
}

// Short ones take turns in two small places, which stay in the nearest cache; the others go round.
// What a rank may still be reading is that of the epoch before: a third of the ring at most, so
// there is room behind or before it.
void MemoryRunner::place_scratch(const MemoryRun& run) {
  constexpr std::size_t kSmall = 8 << 10;
  static_assert(2 * kSmall + 3 * memory::kRoundBytes <= memory::kScratchBytes);
  std::size_t bytes = run.chosen->scratch_bytes().size();
  if (run.chooses && run.round == 0) {
    bytes = std::max(bytes, run.everywhere.scratch_bytes().size());
  }
  if (bytes <= kSmall) {
    scratch_ = epoch_ % 2 * kSmall;
    return;
  }
  constexpr std::size_t kPage = 4096;
  bytes = (bytes + kPage - 1) / kPage * kPage;
  const std::size_t begin = 2 * kSmall;
  const bool fits = std::max(ring_end_, begin) + bytes <= memory::kScratchBytes;
  ring_begin_ = fits ? std::max(ring_end_, begin) : begin;
  ring_end_ = ring_begin_ + bytes;
  scratch_ = ring_begin_;
}

// Whether all ranks' buffers are mapped by all: everybody looks at the same entries.
bool MemoryRunner::choose(MemoryRun& run) {
  for (; run.chosen_up_to < size_; ++run.chosen_up_to) {
    if (run.chosen_up_to != self_ && !await(run.chosen_up_to, 0)) return false;
  }
  run.inputs.assign(static_cast<std::size_t>(size_), nullptr);
  run.outputs.assign(static_cast<std::size_t>(size_), nullptr);
  run.chosen = &run.everywhere;
  for (int rank = 0; rank < size_; ++rank) {
    const memory::Entry& entry = group_.entry(rank, epoch_);
    for (const bool in : {true, false}) {
      const memory::Posted posted = in ? entry.input : entry.output;
      if (posted == memory::kOrdinary) {
        run.chosen = &run.by_scratch;
      } else if (posted != memory::kAbsent) {
        (in ? run.inputs : run.outputs)[static_cast<std::size_t>(rank)] =
            group_.book().locate(rank, posted, in ? run.input_bytes : run.output_bytes);
      }
    }
  }
  const auto self = static_cast<std::size_t>(self_);
  run.inputs[self] = static_cast<std::byte*>(const_cast<void*>(run.input));
  run.outputs[self] = static_cast<std::byte*>(run.output);
  run.chosen->set_round(0);
  return true;
}

bool MemoryRunner::await(int peer, std::int32_t stage) {
  const std::uint64_t wanted = epoch_ << memory::kStageBits | static_cast<std::uint64_t>(stage);
  return known_[static_cast<std::size_t>(peer)] >= wanted || await_slow(peer, wanted);
}

bool MemoryRunner::await_slow(int peer, std::uint64_t wanted) {
  const std::uint64_t epoch = wanted >> memory::kStageBits;
  const std::atomic<std::uint64_t>& progress = group_.entry(peer, epoch).progress;
  std::uint64_t found = progress.load(std::memory_order_acquire);
  if (found < wanted) {
    // It may have come so far just before it left: look again once it is known to be gone.
    if (group_.is_here(peer)) return false;
    found = progress.load(std::memory_order_acquire);
    if (found < wanted) {
      if (found >> memory::kStageBits == epoch) compare(peer, epoch);
      group_.check(peer, "takes part no more");
    }
  }
  // Nobody enters the epoch after next before this rank has entered the next.
  if (found >> memory::kStageBits != epoch) {
    fail<Corrupt>("rank {} counts to {:#x} where {:#x} is next: its shared area is damaged",
                  group_.rank_of(peer), found, wanted);
  }
  known_[static_cast<std::size_t>(peer)] = found;
  if (compared_[static_cast<std::size_t>(peer)] < epoch) compare(peer, epoch);
  return true;
}

// Ranks that make different calls meet here.
void MemoryRunner::compare(int peer, std::uint64_t epoch) {
  const memory::Entry& theirs = group_.entry(peer, epoch);
  if (theirs.fingerprint != fingerprints_[epoch % 2]) {
    throw FrameMismatch(group_.rank_of(peer), group_.entry(self_, epoch).tag, Bytes(0), theirs.tag,
                        Bytes(0));
  }
  compared_[static_cast<std::size_t>(peer)] = epoch;
}

void MemoryRunner::publish(const MemoryRun& run, std::int32_t stage) {
  memory::Entry& entry = group_.entry(self_, epoch_);
  if (!published_) {
    published_ = true;
    entry.fingerprint = fingerprints_[epoch_ % 2];
  }
  if (stage > 0 && run.chosen->is_inline()) entry.inline_data = inline_data_;
  entry.progress.store(epoch_ << memory::kStageBits | static_cast<std::uint64_t>(stage),
                       std::memory_order_release);
  group_.notify_all();
}

MemoryRunner::Progress MemoryRunner::run_steps(MemoryRun& run) {
  const auto& steps = run.chosen->steps();
  bool moved = false;
  while (run.next < steps.size()) {
    const BoundStep& step = steps[run.next];
    switch (step.kind) {
      case MemoryStepKind::publish:
        publish(run, step.stage);
        break;
      case MemoryStepKind::await:
        if (!await(step.peer, step.stage)) return moved ? Progress::moved : Progress::blocked;
        break;
      case MemoryStepKind::move:
        if (!move(run, step)) return Progress::moved;
        break;
    }
    moved = true;
    ++run.next;
  }
  return Progress::done;
}

std::byte* MemoryRunner::address(const MemoryRun& run, const BoundSlice& slice) {
  const auto element = size_of(run.dtype).value;
  if (slice.buffer == Buffer::scratch) {
    std::byte* base = group_.scratch(slice.rank) + scratch_;
    if (run.chosen->is_inline()) {
      base = slice.rank == self_ ? inline_data_.data()
                                 : group_.entry(slice.rank, epoch_).inline_data.data();
    }
    return base + slice.offset.value * element;
  }
  const bool in = slice.buffer == Buffer::input;
  std::byte* base = nullptr;
  if (slice.rank == self_) {
    base = static_cast<std::byte*>(in ? const_cast<void*>(run.input) : run.output);
  } else {
    base = (in ? run.inputs : run.outputs)[static_cast<std::size_t>(slice.rank)];
    if (base == nullptr) {
      fail<Corrupt>("rank {} posted a buffer that is not mapped here: its area is damaged",
                    group_.rank_of(slice.rank));
    }
  }
  return base + (run.chosen->start(slice.buffer, slice.block) + slice.offset).value * element;
}

// False if it is not finished yet, but others should get a turn.
bool MemoryRunner::move(MemoryRun& run, const BoundStep& step) {
  const auto slices = static_cast<std::size_t>(step.sources + step.targets);
  places_.resize(slices);
  const BoundSlice* const bound = run.chosen->slices(step);
  for (std::size_t k = 0; k < slices; ++k) {
    places_[k] = address(run, bound[k]);
    if (places_[k] != nullptr) places_[k] += run.moved.value * size_of(run.dtype).value;
  }
  const Elems turn(kTurnBytes / size_of(run.dtype).value);
  const Elems count = std::min(step.count - run.moved, turn);
  if (step.at_home) {
    move_part(run, step, places_, count);
  } else {
    if (!group_.go_abroad()) group_.report_severed();
    move_part(run, step, places_, count);
    group_.come_home();
  }
  const auto bytes = bytes_of(count, run.dtype).size();
  for (std::size_t k = 0; k < slices; ++k) {
    const bool source = k < static_cast<std::size_t>(step.sources);
    if (source && bound[k].rank != self_) add(bytes_received_, bytes);
    if (!source && (bound[k].rank != self_ || bound[k].buffer == Buffer::scratch)) {
      add(bytes_sent_, bytes);
    }
  }
  run.moved += count;
  if (run.moved < step.count) return false;
  run.moved = Elems(0);
  return true;
}

void MemoryRunner::move_part(MemoryRun& run, const BoundStep& step,
                             std::span<std::byte* const> places, Elems count) {
  const auto sources = static_cast<std::size_t>(step.sources);
  const auto targets = static_cast<std::size_t>(step.targets);
  const std::size_t element = size_of(run.dtype).size();
  const bool divides = step.completes && run.op == ReduceOp::avg;
  const ReduceOp op = run.op == ReduceOp::avg && !divides ? ReduceOp::sum : run.op;
  const bool copies = sources == 1 && !divides;
  const std::size_t piece =
      targets == 1 ? count.size() : std::max<std::size_t>(kSeveralBytes / element, 1);
  std::array<const void*, kOnStack> few;  // filled as far as it is used
  std::vector<const void*> many;
  const void** inputs = few.data();
  if (sources > few.size()) {
    many.resize(sources);
    inputs = many.data();
  }
  for (std::size_t done = 0; done < count.size(); done += piece) {
    const std::size_t length = std::min(piece, count.size() - done);
    const std::size_t offset = done * element;
    std::byte* const first = places[sources] + offset;
    if (copies) {
      const std::byte* const from = places[0] + offset;
      for (std::size_t k = 0; k < targets; ++k) {
        std::byte* const to = places[sources + k] + offset;
        if (to != from) std::memcpy(to, from, length * element);
      }
      continue;
    }
    for (std::size_t k = 0; k < sources; ++k) inputs[k] = places[k] + offset;
    kernels::reduce(first, {inputs, sources}, Elems(static_cast<std::int64_t>(length)), run.dtype,
                    op, size_);
    for (std::size_t k = 1; k < targets; ++k) {
      std::memcpy(places[sources + k] + offset, first, length * element);
    }
  }
}

}  // namespace weft::comm
