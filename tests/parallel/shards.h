// Shards to save and load, in the layouts that training has.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>

#include "tensor/parallel/checkpoint.h"
#include "tensor/random.h"

namespace weft::parallel::tests {

namespace fs = std::filesystem;
using checkpoint::Shard;

// replicated: all on every rank. flat: equal ranges, as ZeRO has them. overlapping: ranges that
// share some. by_tensor: every tensor on one rank.
enum class Layout { replicated, flat, overlapping, by_tensor };

inline Shard shard_of(const std::string& name, const Tensor& whole, Layout layout, int index,
                      int rank, int ranks) {
  const auto n = whole.numel();
  if (layout == Layout::replicated) return {name, whole.shape(), Elems(0), whole};
  std::int64_t begin = 0;
  std::int64_t end = n;
  if (layout == Layout::by_tensor) {
    if (index % ranks != rank) end = 0;
  } else {
    const auto each = (n + ranks - 1) / ranks;
    begin = std::min(n, each * rank);
    end = std::min(n, each * (rank + 1));
    if (layout == Layout::overlapping) end = std::min(n, end + each / 2);
  }
  if (begin == end) return {name, whole.shape(), Elems(0), {}};
  return {name, whole.shape(), Elems(begin),
          whole.contiguous().view({n}).narrow(0, begin, end - begin).clone()};
}

// A model of some tensors (one large enough to be cut, one empty, a scalar) and its moments. The
// values are small whole numbers and exact in every type, those of `salt` apart from one another.
inline ShardedState example_state(Communicator& comm, Layout layout, DType model = DType::f32,
                                  int salt = 0) {
  const std::vector<std::pair<std::string, Shape>> tensors = {{"h.0.weight", {300, 200}},
                                                              {"h.0.bias", {300}},
                                                              {"wte.weight", {401, 100}},
                                                              {"ln.weight", {7}},
                                                              {"nothing", {0, 5}}};
  ShardedState state;
  state.parts = {{"model", {}}, {"optimizer", {}}};
  state.rank_state = fmt::format(R"({{"rank":{}}})", comm.rank());
  int index = 0;
  const auto add = [&](ShardList& into, const std::string& name, const Tensor& whole, Layout how) {
    into.push_back(shard_of(name, whole, how, index++, comm.rank(), comm.size()));
  };
  std::uint64_t seed = static_cast<std::uint64_t>(salt) * 100;
  for (const auto& [name, shape] : tensors) {
    tensor::Generator generator(++seed);
    const auto n = checkpoint::elements_of(shape).value;
    std::vector<float> values(static_cast<std::size_t>(n));
    for (auto& v : values) v = static_cast<float>(generator.next_below(255)) - 127.0F;
    const auto whole = Tensor::from(values, shape);
    add(state.parts[0].shards, name, whole.to(model), layout);
    add(state.parts[1].shards, name + ".exp_avg", whole, layout);
    add(state.parts[1].shards, name + ".step", Tensor::full({}, 3 + salt, {DType::i64}),
        Layout::replicated);
  }
  return state;
}

inline void clear(ShardList& shards) {
  for (auto& shard : shards) {
    if (shard.data.defined())
      shard.data = Tensor::full(shard.data.shape(), 99, {shard.data.dtype()});
  }
}

inline void expect_equal(const ShardList& found, const ShardList& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(found[i].data.defined(), expected[i].data.defined()) << found[i].name;
    if (!found[i].data.defined()) continue;
    EXPECT_EQ(found[i].data.to_vector<double>(), expected[i].data.to_vector<double>())
        << found[i].name << " from " << found[i].begin.value;
  }
}

}  // namespace weft::parallel::tests
