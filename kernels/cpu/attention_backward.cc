#include "kernels/attention.h"
#include "kernels/cpu/attention_head.h"

namespace weft::kernels {
namespace {

struct Range {
  std::int64_t begin = 0, end = 0;
};

// The gradient of one head, over some of its tiles. A query's gradient sums over blocks of keys in
// order, a key's over blocks of queries in order, whoever does it: a head gives the same bits as
// one unit and as many.
template <class T>
class BackwardWorker {
  using R = Real<T>;

 public:
  BackwardWorker(const CausalAttention& p, const T* dout, T* dqkv)
      : p_(p),
        dout_packed_(dout),
        dqkv_packed_(dqkv),
        mask_(p),
        stride_(padded_stride<R>(std::min(kKeyBlock, p.length))),
        scores_(static_cast<std::size_t>(kQueryBlock * stride_)),
        gradient_(scores_.size()),
        dot_(static_cast<std::size_t>(kQueryBlock)) {}

  // Everything of a head, five products a tile.
  void run_head(std::int64_t head) {
    load(head);
    clear_keys({0, p_.length});
    run_tiles({0, query_blocks()}, {0, key_blocks()}, true, true);
    for (std::int64_t part = 0; part < 3; ++part) store(part, {0, p_.length});
  }

  // Gradients of one block of queries.
  void run_queries(std::int64_t head, std::int64_t block) {
    load(head);
    run_tiles({block, block + 1}, {0, key_blocks()}, true, false);
    store(0, {block * kQueryBlock, std::min(p_.length, (block + 1) * kQueryBlock)});
  }

  // Gradients of one block of keys and values.
  void run_keys(std::int64_t head, std::int64_t block) {
    load(head);
    const Range rows{block * kKeyBlock, std::min(p_.length, (block + 1) * kKeyBlock)};
    clear_keys(rows);
    run_tiles({0, query_blocks()}, {block, block + 1}, false, true);
    store(1, rows);
    store(2, rows);
  }

 private:
  std::int64_t query_blocks() const { return blocks_of(p_.length, kQueryBlock); }
  std::int64_t key_blocks() const { return blocks_of(p_.length, kKeyBlock); }

  void load(std::int64_t head) {
    if (head == head_) return;
    head_ = head;
    const T* qkv = static_cast<const T*>(p_.qkv);
    const std::int64_t length = p_.length, width = p_.width;
    queries_.load(HeadRows<const T>(p_, qkv, head, 0, 3), length, width);
    keys_.load(HeadRows<const T>(p_, qkv, head, 2, 3), length, width);
    values_across_.transpose_of(keys_);
    keys_.load(HeadRows<const T>(p_, qkv, head, 1, 3), length, width);
    keys_across_.transpose_of(keys_);
    out_.load(HeadRows<const T>(p_, static_cast<const T*>(p_.out), head, 0, 1), length, width);
    dout_.load(HeadRows<const T>(p_, dout_packed_, head, 0, 1), length, width);
    for (auto& gradient : dqkv_) gradient.resize(length, width);
  }

  void clear_keys(Range rows) {
    dqkv_[1].clear(rows.begin, rows.end);
    dqkv_[2].clear(rows.begin, rows.end);
  }

  void store(std::int64_t part, Range rows) {
    dqkv_[part].store(HeadRows<T>(p_, dqkv_packed_, head_, part, 3), rows.begin, rows.end);
  }

  void run_tiles(Range queries, Range keys, bool want_queries, bool want_keys) {
    for (std::int64_t i = queries.begin; i < queries.end; ++i) {
      const std::int64_t query = i * kQueryBlock;
      const std::int64_t rows = std::min(kQueryBlock, p_.length - query);
      if (keys.begin * kKeyBlock >= query + rows) continue;  // above the diagonal
      row_dots(rows, p_.width, dout_.row(query), p_.width, out_.row(query), p_.width, dot_.data());
      for (std::int64_t j = keys.begin; j < keys.end && j * kKeyBlock < query + rows; ++j) {
        run_tile(query, rows, j * kKeyBlock, want_queries, want_keys);
      }
    }
  }

  // P = softmax(scale Q K'), dP = dO V', dS = P (dP - dot) scale; dQ += dS K, dK += dS' Q, dV += P'
  // dO.
  void run_tile(std::int64_t query, std::int64_t rows, std::int64_t key, bool want_queries,
                bool want_keys) {
    const std::int64_t columns = std::min(kKeyBlock, query + rows - key);
    ScoreTile<R> tile{scores_.data(), rows, columns, stride_, query - key + 1, nullptr};
    tile.mask = mask_.draw(tile, head_, query, key);
    products_with_keys(tile, queries_.row(query), keys_across_.row(0) + key, scores_.data(),
                       score_scale<R>(p_));
    products_with_keys(tile, dout_.row(query), values_across_.row(0) + key, gradient_.data(), R(1));
    softmax_tile_gradient(tile, gradient_.data(),
                          static_cast<const R*>(p_.log_sum_exp) + head_ * p_.length + query,
                          dot_.data(), score_scale<R>(p_));
    if (want_queries) {
      TileProduct<R> product;
      product.m = rows, product.n = p_.width, product.k = columns;
      product.a = gradient_.data(), product.a_row = stride_;
      product.b = keys_.row(key), product.b_row = p_.width;
      product.c = dqkv_[0].row(query), product.c_row = p_.width;
      product.accumulate = key > 0;
      product.trim = Trim::inner, product.first_visible = tile.first_visible;
      tile_product(product);
    }
    if (want_keys) {
      add_to_keys(tile, gradient_.data(), queries_.row(query), dqkv_[1].row(key));
      add_to_keys(tile, scores_.data(), dout_.row(query), dqkv_[2].row(key));
    }
  }

  // to (rows x keys) = scale * from (rows x width) across (width x keys).
  void products_with_keys(const ScoreTile<R>& tile, const R* from, const R* across, R* to,
                          R scale) {
    TileProduct<R> product;
    product.m = tile.rows, product.n = tile.columns, product.k = p_.width;
    product.alpha = scale;
    product.a = from, product.a_row = p_.width;
    product.b = across, product.b_row = keys_across_.columns();
    product.c = to, product.c_row = stride_;
    product.trim = Trim::columns, product.first_visible = tile.first_visible;
    tile_product(product);
  }

  // to (keys x width) += weights' (keys x rows) from (rows x width).
  void add_to_keys(const ScoreTile<R>& tile, const R* weights, const R* from, R* to) {
    TileProduct<R> product;
    product.m = tile.columns, product.n = p_.width, product.k = tile.rows;
    product.a = weights, product.a_row = 1, product.a_inner = stride_;
    product.b = from, product.b_row = p_.width;
    product.c = to, product.c_row = p_.width;
    product.accumulate = true;
    product.trim = Trim::inner_start, product.first_visible = tile.first_visible;
    tile_product(product);
  }

  const CausalAttention& p_;
  const T* dout_packed_;
  T* dqkv_packed_;
  TileMask<R> mask_;
  std::int64_t head_ = -1;
  // across: width x length
  HeadMatrix<R> queries_, keys_, keys_across_, values_across_, out_, dout_;
  HeadMatrix<R> dqkv_[3];
  std::int64_t stride_;  // of scores
  std::vector<R> scores_, gradient_, dot_;
};

}  // namespace

void causal_attention_backward(const CausalAttention& problem, const void* dout, void* dqkv) {
  const std::int64_t heads = problem.batch * problem.heads;
  const std::int64_t query_blocks = blocks_of(problem.length, kQueryBlock);
  const std::int64_t key_blocks = blocks_of(problem.length, kKeyBlock);
  dispatch_floating(problem.dtype, "causal_attention", [&]<class T>() {
    const auto share_out = [&](std::int64_t units, const auto& run) {
      parallel_for(units, 1, [&](std::int64_t begin, std::int64_t end) {
        BackwardWorker<T> worker(problem, static_cast<const T*>(dout), static_cast<T*>(dqkv));
        for (std::int64_t unit = begin; unit < end; ++unit) run(worker, unit);
      });
    };
    if (heads >= ThreadPool::current().size() || query_blocks == 1) {
      share_out(heads, [](auto& worker, std::int64_t unit) { worker.run_head(unit); });
      return;
    }
    // Fewer heads than threads: two products more a tile, but all threads work.
    share_out(heads * key_blocks, [&](auto& worker, std::int64_t unit) {
      worker.run_keys(unit / key_blocks, unit % key_blocks);
    });
    share_out(heads * query_blocks, [&](auto& worker, std::int64_t unit) {
      worker.run_queries(unit / query_blocks, unit % query_blocks);
    });
  });
}

}  // namespace weft::kernels
