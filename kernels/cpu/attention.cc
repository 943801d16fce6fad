#include "kernels/attention.h"

#include "kernels/cpu/attention_head.h"

namespace weft::kernels {
namespace {

// Works through (head, block of queries) units in order; halves are widened once a head.
template <class T>
class ForwardWorker {
  using R = Real<T>;

 public:
  explicit ForwardWorker(const CausalAttention& p)
      : p_(p),
        mask_(p),
        scores_(static_cast<std::size_t>(kQueryBlock * std::min(kKeyBlock, p.length))),
        maximum_(static_cast<std::size_t>(kQueryBlock)),
        sum_(static_cast<std::size_t>(kQueryBlock)) {}

  void run(std::int64_t head, std::int64_t block) {
    if (head != head_) load(head);
    const std::int64_t query = block * kQueryBlock;
    const std::int64_t rows = std::min(kQueryBlock, p_.length - query);
    HeadRows<T> to = head_of(p_, static_cast<T*>(p_.out), head, 0, 1);
    to.data += query * to.stride;
    const HeadRows<R> out = writable<T>(to, rows, p_.width, out_scratch_);
    RunningSoftmax<R> state{maximum_.data(), sum_.data(), out.data, p_.width, out.stride, true};
    for (std::int64_t key = 0; key < query + rows; key += kKeyBlock) {
      add_tile(query, rows, key, out, state);
      state.first = false;
    }
    finish_softmax(rows, state, static_cast<R*>(p_.log_sum_exp) + head * p_.length + query);
    narrow<T>(to, out, 0, rows, p_.width);
  }

 private:
  void load(std::int64_t head) {
    head_ = head;
    const T* qkv = static_cast<const T*>(p_.qkv);
    for (std::int64_t part = 0; part < 3; ++part) {
      qkv_[part] =
          widened<T>(head_of(p_, qkv, head, part, 3), p_.length, p_.width, qkv_scratch_[part]);
    }
  }

  void add_tile(std::int64_t query, std::int64_t rows, std::int64_t key, HeadRows<R> out,
                const RunningSoftmax<R>& state) {
    const std::int64_t columns = std::min(kKeyBlock, query + rows - key);
    const auto [q, k, v] = qkv_;
    const HeadRows<const R> keys{k.row(key), k.stride}, values{v.row(key), v.stride};
    const HeadRows<R> scores{scores_.data(), columns};
    product<R>(rows, columns, p_.width, score_scale<R>(p_), {q.row(query), q.stride}, Transpose::no,
               keys, Transpose::yes, R(0), scores);
    ScoreTile<R> tile{scores_.data(), rows, columns, query - key + 1, nullptr};
    tile.mask = mask_.draw(tile, head_, query, key);
    advance_softmax(tile, state);
    product<R>(rows, p_.width, columns, R(1), {scores.data, scores.stride}, Transpose::no, values,
               Transpose::no, state.first ? R(0) : R(1), out);
  }

  const CausalAttention& p_;
  TileMask<R> mask_;
  std::int64_t head_ = -1;
  HeadRows<const R> qkv_[3];
  std::vector<R> qkv_scratch_[3], out_scratch_, scores_, maximum_, sum_;
};

}  // namespace

std::uint64_t attention_dropout_words(std::int64_t batch, std::int64_t heads, std::int64_t length) {
  const std::int64_t padded = blocks_of(length, Philox::kWords) * Philox::kWords;
  return static_cast<std::uint64_t>(batch * heads * length * padded) + Philox::kWords - 1;
}

void causal_attention(const CausalAttention& problem) {
  const std::int64_t blocks = blocks_of(problem.length, kQueryBlock);
  dispatch_floating(problem.dtype, "causal_attention", [&]<class T>() {
    parallel_for(problem.batch * problem.heads * blocks, 1,
                 [&](std::int64_t begin, std::int64_t end) {
                   ForwardWorker<T> worker(problem);
                   for (std::int64_t unit = begin; unit < end; ++unit) {
                     worker.run(unit / blocks, unit % blocks);
                   }
                 });
  });
}

}  // namespace weft::kernels
