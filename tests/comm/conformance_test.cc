// One suite for all transports: every collective, algorithm and world size, over dtypes, operators,
// counts, alignment and aliasing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "comm/algorithms/algorithms.h"
#include "tests/comm/typed_buffer.h"
#include "tests/comm/world.h"

namespace weft::comm {
namespace {

using testing::Backend;
using testing::folded;
using testing::share;
using testing::TypedBuffer;

constexpr DType kDTypes[] = {DType::f32, DType::f64, DType::f16, DType::bf16,
                             DType::i64, DType::i32, DType::u8};
constexpr ReduceOp kOps[] = {ReduceOp::sum, ReduceOp::prod, ReduceOp::min, ReduceOp::max,
                             ReduceOp::avg};
constexpr std::int64_t kCounts[] = {0, 1, 3, 17, 1000, 40'003};

// One of the many ways to make a call; the same on all ranks.
struct Way {
  DType dtype;
  ReduceOp op;
  std::int64_t count;
  bool in_place;
  bool unaligned;
  int root;
  CallOptions options;
  std::string text() const {
    return fmt::format("{} {} x {}, {}, root {}{}{}", options.algorithm, count, name_of(dtype),
                       name_of(op), root, in_place ? ", in place" : "",
                       unaligned ? ", unaligned" : "");
  }
};

double expected_in(DType dtype, double value) {
  if (dtype == DType::u8) return static_cast<double>(static_cast<std::int64_t>(value) & 0xff);
  return is_floating(dtype) ? value : std::trunc(value);
}

// Compares [0, count) of `buffer` with what `expected(i)` says.
template <class Expected>
void compare(const Way& way, const char* what, const TypedBuffer& buffer, std::int64_t count,
             Expected expected) {
  const double tolerance = is_half(way.dtype) ? 1e-2 : 1e-6;
  for (std::int64_t i = 0; i < count; ++i) {
    const double wanted = expected_in(way.dtype, expected(i));
    if (std::abs(buffer.get(i) - wanted) <= tolerance * std::abs(wanted)) continue;
    ADD_FAILURE() << what << ", " << way.text() << ": element " << i << " is " << buffer.get(i)
                  << ", expected " << wanted;
    return;
  }
}

void fill(TypedBuffer& buffer, std::int64_t begin, std::int64_t count, int rank, ReduceOp op,
          std::int64_t shift = 0) {
  for (std::int64_t i = 0; i < count; ++i) buffer.set(begin + i, share(rank, i + shift, op));
}

using Check = void (*)(Communicator& world, const Way& way);

void check_all_reduce(Communicator& world, const Way& way) {
  TypedBuffer input(way.dtype, way.count, way.unaligned);
  TypedBuffer output(way.dtype, way.count, way.unaligned);
  fill(input, 0, way.count, world.rank(), way.op);
  TypedBuffer& result = way.in_place ? input : output;
  world.all_reduce(input.view(), result.view(), way.op, way.options);
  compare(way, "all_reduce", result, way.count,
          [&](std::int64_t i) { return folded(world.size(), i, way.op); });
}

void check_reduce(Communicator& world, const Way& way) {
  TypedBuffer input(way.dtype, way.count, way.unaligned);
  TypedBuffer output(way.dtype, way.count, way.unaligned);
  fill(input, 0, way.count, world.rank(), way.op);
  TypedBuffer& result = way.in_place ? input : output;
  const bool is_root = world.rank() == way.root;
  world.reduce(input.view(), is_root ? result.view() : View{}, way.root, way.op, way.options);
  if (!is_root) {
    return compare(way, "reduce: the input", input, way.count,
                   [&](std::int64_t i) { return share(world.rank(), i, way.op); });
  }
  compare(way, "reduce", result, way.count,
          [&](std::int64_t i) { return folded(world.size(), i, way.op); });
}

void check_broadcast(Communicator& world, const Way& way) {
  TypedBuffer buffer(way.dtype, way.count, way.unaligned);
  fill(buffer, 0, way.count, world.rank(), way.op);
  world.broadcast(buffer.view(), way.root, way.options);
  compare(way, "broadcast", buffer, way.count,
          [&](std::int64_t i) { return share(way.root, i, way.op); });
}

void check_all_gather(Communicator& world, const Way& way) {
  const std::int64_t total = way.count * world.size();
  TypedBuffer input(way.dtype, way.count, way.unaligned);
  TypedBuffer output(way.dtype, total, way.unaligned);
  const std::int64_t own = world.rank() * way.count;
  fill(input, 0, way.count, world.rank(), way.op);
  if (way.in_place) fill(output, own, way.count, world.rank(), way.op);
  world.all_gather(way.in_place ? output.view(own, way.count) : input.view(), output.view(),
                   way.options);
  compare(way, "all_gather", output, total, [&](std::int64_t i) {
    return share(static_cast<int>(i / way.count), i % way.count, way.op);
  });
}

void check_reduce_scatter(Communicator& world, const Way& way) {
  const std::int64_t total = way.count * world.size();
  TypedBuffer input(way.dtype, total, way.unaligned);
  TypedBuffer output(way.dtype, way.count, way.unaligned);
  const std::int64_t own = world.rank() * way.count;
  fill(input, 0, total, world.rank(), way.op);
  const View result = way.in_place ? input.view(own, way.count) : output.view();
  world.reduce_scatter(input.view(), result, way.op, way.options);
  if (way.in_place) {
    for (std::int64_t i = 0; i < way.count; ++i) output.set(i, input.get(own + i));
  }
  compare(way, "reduce_scatter", output, way.count,
          [&](std::int64_t i) { return folded(world.size(), own + i, way.op); });
}

void check_gather(Communicator& world, const Way& way) {
  const std::int64_t total = way.count * world.size();
  TypedBuffer input(way.dtype, way.count, way.unaligned);
  TypedBuffer output(way.dtype, total, way.unaligned);
  fill(input, 0, way.count, world.rank(), way.op);
  const bool is_root = world.rank() == way.root;
  world.gather(input.view(), is_root ? output.view() : View{}, way.root, way.options);
  if (!is_root) return;
  compare(way, "gather", output, total, [&](std::int64_t i) {
    return share(static_cast<int>(i / way.count), i % way.count, way.op);
  });
}

void check_scatter(Communicator& world, const Way& way) {
  const std::int64_t total = way.count * world.size();
  TypedBuffer input(way.dtype, total, way.unaligned);
  TypedBuffer output(way.dtype, way.count, way.unaligned);
  fill(input, 0, total, world.rank(), way.op);
  const bool is_root = world.rank() == way.root;
  world.scatter(is_root ? ConstView(input.view()) : ConstView{}, output.view(), way.root,
                way.options);
  compare(way, "scatter", output, way.count,
          [&](std::int64_t i) { return share(way.root, world.rank() * way.count + i, way.op); });
}

void check_all_to_all(Communicator& world, const Way& way) {
  const std::int64_t total = way.count * world.size();
  TypedBuffer input(way.dtype, total, way.unaligned);
  TypedBuffer output(way.dtype, total, way.unaligned);
  fill(input, 0, total, world.rank(), way.op);
  world.all_to_all(input.view(), output.view(), way.options);
  compare(way, "all_to_all", output, total, [&](std::int64_t i) {
    return share(static_cast<int>(i / way.count), world.rank() * way.count + i % way.count, way.op);
  });
}

void check_barrier(Communicator& world, const Way& way) { world.barrier(way.options); }

struct Subject {
  Collective collective;
  Check check;
};
constexpr Subject kSubjects[] = {
    {Collective::all_reduce, check_all_reduce},
    {Collective::reduce, check_reduce},
    {Collective::broadcast, check_broadcast},
    {Collective::all_gather, check_all_gather},
    {Collective::reduce_scatter, check_reduce_scatter},
    {Collective::gather, check_gather},
    {Collective::scatter, check_scatter},
    {Collective::all_to_all, check_all_to_all},
    {Collective::barrier, check_barrier},
};

class Conformance : public ::testing::TestWithParam<Backend> {};

// Each (collective, algorithm) with each count, the other dimensions cycling through at co-prime
// steps, so that over all world sizes every pair of choices meets.
void check_everything(Communicator& world, const std::shared_ptr<const HostMap>& hosts) {
  std::size_t turn = static_cast<std::size_t>(world.size());
  for (const Subject& subject : kSubjects) {
    for (const Algorithm& algorithm : algorithms()) {
      const Problem problem{subject.collective, world.rank(), world.size(), 0, hosts};
      if (!algorithm.supports(problem)) continue;
      for (const std::int64_t count : kCounts) {
        ++turn;
        const bool gathers = block_count(problem, wide_buffer(subject.collective)) > 1;
        Way way{kDTypes[turn % 7],
                kOps[turn % 5],
                gathers ? count / world.size() + (count > 0 ? 1 : 0) : count,
                turn % 2 == 0,
                turn % 3 == 0,
                static_cast<int>(turn % static_cast<std::size_t>(world.size())),
                {algorithm.name}};
        subject.check(world, way);
      }
    }
  }
}

TEST_P(Conformance, EveryCollective) {
  for (const int size : {1, 2, 3, 4, 5, 7, 8}) {
    const auto hosts = testing::hosts_of(GetParam(), size);
    testing::expect_world(GetParam(), size,
                          [&](Communicator& world) { check_everything(world, hosts); });
  }
}

TEST_P(Conformance, EveryDTypeAndOperator) {
  testing::expect_world(GetParam(), 3, [](Communicator& world) {
    for (const DType dtype : kDTypes) {
      for (const ReduceOp op : kOps) {
        check_all_reduce(world, {dtype, op, 777, false, true, 0, {}});
        check_reduce(world, {dtype, op, 77, false, false, 2, {}});
        check_reduce_scatter(world, {dtype, op, 77, false, false, 0, {}});
      }
    }
  });
}

TEST_P(Conformance, LargeMessages) {
  testing::expect_world(GetParam(), 2, [](Communicator& world) {
    for (const bool in_place : {false, true}) {
      check_all_reduce(world, {DType::f32, ReduceOp::sum, 1'500'001, in_place, true, 0, {}});
      check_all_gather(world, {DType::u8, ReduceOp::sum, 1'500'001, in_place, false, 0, {}});
    }
    check_broadcast(world, {DType::f32, ReduceOp::sum, 1'500'001, true, false, 1, {}});
    check_all_to_all(world, {DType::f32, ReduceOp::sum, 700'001, false, false, 0, {}});
  });
}

std::vector<Elems> uneven(int size, std::int64_t scale) {
  std::vector<Elems> counts;
  for (int r = 0; r < size; ++r) counts.emplace_back((r * 5 + 3) % 7 * scale);
  return counts;
}

std::int64_t begin_of(const std::vector<Elems>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, Elems(0)).value;
}

void check_v_forms(Communicator& world, DType dtype, std::int64_t scale, int root) {
  const std::vector<Elems> counts = uneven(world.size(), scale);
  const std::int64_t mine = counts[static_cast<std::size_t>(world.rank())].value;
  const std::int64_t before = begin_of(counts, world.rank());
  const std::int64_t total = begin_of(counts, world.size());
  const Way way{dtype, ReduceOp::sum, total, false, false, root, {}};
  TypedBuffer own(dtype, mine, false);
  TypedBuffer all(dtype, total, true);
  TypedBuffer wide(dtype, total, false);
  fill(own, 0, mine, world.rank(), way.op, before);
  fill(wide, 0, total, world.rank(), way.op);
  const auto owner = [&](std::int64_t i) {
    int r = 0;
    while (begin_of(counts, r + 1) <= i) ++r;
    return r;
  };
  const auto gathered = [&](std::int64_t i) { return share(owner(i), i, way.op); };

  world.all_gather_v(own.view(), all.view(), counts);
  compare(way, "all_gather_v", all, total, gathered);
  TypedBuffer at_root(dtype, total, false);
  const bool is_root = world.rank() == root;
  world.gather_v(own.view(), is_root ? at_root.view() : View{}, counts, root);
  if (is_root) compare(way, "gather_v", at_root, total, gathered);
  TypedBuffer part(dtype, mine, false);
  world.scatter_v(is_root ? ConstView(wide.view()) : ConstView{}, part.view(), counts, root);
  compare(way, "scatter_v", part, mine,
          [&](std::int64_t i) { return share(root, before + i, way.op); });
  world.reduce_scatter_v(wide.view(), part.view(), counts);
  compare(way, "reduce_scatter_v", part, mine,
          [&](std::int64_t i) { return folded(world.size(), before + i, way.op); });
}

void check_all_to_all_v(Communicator& world, DType dtype, std::int64_t scale) {
  // Rank a sends (a + 2b) % 4 * scale elements to rank b.
  const auto amount = [&](int from, int to) {
    return Elems(from == to ? scale : (from + 2 * to) % 4 * scale);
  };
  std::vector<Elems> sent;
  std::vector<Elems> received;
  for (int r = 0; r < world.size(); ++r) {
    sent.push_back(amount(world.rank(), r));
    received.push_back(amount(r, world.rank()));
  }
  TypedBuffer input(dtype, begin_of(sent, world.size()), false);
  TypedBuffer output(dtype, begin_of(received, world.size()), true);
  for (int r = 0; r < world.size(); ++r) {
    fill(input, begin_of(sent, r), sent[static_cast<std::size_t>(r)].value, world.rank(),
         ReduceOp::sum, r);
  }
  world.all_to_all_v(input.view(), sent, output.view(), received);
  const Way way{dtype, ReduceOp::sum, scale, false, true, 0, {}};
  compare(way, "all_to_all_v", output, begin_of(received, world.size()), [&](std::int64_t i) {
    int r = 0;
    while (begin_of(received, r + 1) <= i) ++r;
    return share(r, i - begin_of(received, r) + world.rank(), ReduceOp::sum);
  });
}

TEST_P(Conformance, VForms) {
  for (const int size : {1, 2, 4, 7}) {
    testing::expect_world(GetParam(), size, [](Communicator& world) {
      for (const std::int64_t scale : {0, 1, 13, 9001}) {
        check_v_forms(world, DType::f32, scale, static_cast<int>(scale) % world.size());
        check_v_forms(world, DType::u8, scale, 0);
        check_all_to_all_v(world, DType::i32, scale);
      }
    });
  }
}

TEST_P(Conformance, TwoRunsGiveTheSameBits) {
  const auto bits_of = [&] {
    std::vector<std::vector<float>> results(5);
    testing::expect_world(GetParam(), 5, [&](Communicator& world) {
      std::vector<float> data(10'007);
      for (std::size_t i = 0; i < data.size(); ++i) {
        data[i] = std::sin(static_cast<float>(i * 31 + static_cast<std::size_t>(world.rank())));
      }
      world.all_reduce(std::span<float>(data));
      results[static_cast<std::size_t>(world.rank())] = data;
    });
    return results;
  };
  const auto first = bits_of();
  for (const auto& other : first) EXPECT_EQ(other, first.front());
  EXPECT_EQ(bits_of(), first);
}

Backend with_hosts(const char* name, HostMap (*hosts)(int size)) {
  Backend backend{name};
  backend.hosts = hosts;
  return backend;
}

INSTANTIATE_TEST_SUITE_P(
    Transports, Conformance,
    ::testing::Values(Backend{"inproc"}, testing::shm_backend(), Backend{"tcp", true, 1},
                      Backend{"tcp_two_lanes", true, 2}, Backend{"tcp_ipv6", true, 1, "::1"},
                      testing::with_connections("tcp_three_connections", 1, 3),
                      with_hosts("inproc_two_hosts", testing::dealt_to_two_hosts),
                      with_hosts("inproc_uneven_hosts", testing::hosts_of_growing_size)),
    [](const auto& param_info) { return param_info.param.name; });

}  // namespace
}  // namespace weft::comm
