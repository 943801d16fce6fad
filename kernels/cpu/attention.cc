#include "kernels/attention.h"

#include "kernels/cpu/attention_head.h"

namespace weft::kernels {
namespace {

// Works through (head, block of queries) units in order; a head's matrices are laid out once.
template <class T>
class ForwardWorker {
  using R = Real<T>;

 public:
  explicit ForwardWorker(const CausalAttention& p)
      : p_(p),
        mask_(p),
        stride_(padded_stride<R>(std::min(kKeyBlock, p.length))),
        scores_(static_cast<std::size_t>(kQueryBlock * stride_)),
        maximum_(static_cast<std::size_t>(kQueryBlock)),
        sum_(static_cast<std::size_t>(kQueryBlock)) {
    out_.resize(kQueryBlock, p.width);
  }

  void run(std::int64_t head, std::int64_t block) {
    if (head != head_) load(head);
    const std::int64_t query = block * kQueryBlock;
    const std::int64_t rows = std::min(kQueryBlock, p_.length - query);
    RunningSoftmax<R> state{maximum_.data(), sum_.data(), out_.row(0), p_.width, p_.width, true};
    for (std::int64_t key = 0; key < query + rows; key += kKeyBlock) {
      add_tile(query, rows, key, state);
      state.first = false;
    }
    finish_softmax(rows, state, static_cast<R*>(p_.log_sum_exp) + head * p_.length + query);
    HeadRows<T> to(p_, static_cast<T*>(p_.out), head, 0, 1);
    to.data += query * to.stride;
    out_.store(to, 0, rows);
  }

 private:
  void load(std::int64_t head) {
    head_ = head;
    const T* qkv = static_cast<const T*>(p_.qkv);
    queries_.load(HeadRows<const T>(p_, qkv, head, 0, 3), p_.length, p_.width);
    // The keys are needed transposed only; values_ holds them for a moment.
    values_.load(HeadRows<const T>(p_, qkv, head, 1, 3), p_.length, p_.width);
    keys_across_.transpose_of(values_);
    values_.load(HeadRows<const T>(p_, qkv, head, 2, 3), p_.length, p_.width);
  }

  void add_tile(std::int64_t query, std::int64_t rows, std::int64_t key,
                const RunningSoftmax<R>& state) {
    const std::int64_t columns = std::min(kKeyBlock, query + rows - key);
    ScoreTile<R> tile{scores_.data(), rows, columns, stride_, query - key + 1, nullptr};
    TileProduct<R> product;
    product.m = rows, product.n = columns, product.k = p_.width;
    product.alpha = score_scale<R>(p_);
    product.a = queries_.row(query), product.a_row = p_.width;
    product.b = keys_across_.row(0) + key, product.b_row = keys_across_.columns();
    product.c = scores_.data(), product.c_row = stride_;
    product.trim = Trim::columns, product.first_visible = tile.first_visible;
    tile_product(product);

    tile.mask = mask_.draw(tile, head_, query, key);
    advance_softmax(tile, state);

    product.n = p_.width, product.k = columns;
    product.alpha = 1;
    product.a = scores_.data(), product.a_row = stride_;
    product.b = values_.row(key), product.b_row = p_.width;
    product.c = out_.row(0), product.c_row = p_.width;
    product.accumulate = !state.first;
    product.trim = Trim::inner;
    tile_product(product);
  }

  const CausalAttention& p_;
  TileMask<R> mask_;
  std::int64_t head_ = -1;
  HeadMatrix<R> queries_, keys_across_, values_, out_;  // keys_across: width x length
  std::int64_t stride_;                                 // of scores
  std::vector<R> scores_, maximum_, sum_;
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
