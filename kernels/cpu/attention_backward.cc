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
        scores_(static_cast<std::size_t>(kQueryBlock * std::min(kKeyBlock, p.length))),
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

  HeadRows<T> target(std::int64_t part) const { return head_of(p_, dqkv_packed_, head_, part, 3); }

  void load(std::int64_t head) {
    if (head == head_) return;
    head_ = head;
    const T* qkv = static_cast<const T*>(p_.qkv);
    for (std::int64_t part = 0; part < 3; ++part) {
      qkv_[part] =
          widened<T>(head_of(p_, qkv, head, part, 3), p_.length, p_.width, qkv_scratch_[part]);
      dqkv_[part] = writable<T>(target(part), p_.length, p_.width, dqkv_scratch_[part]);
    }
    out_ = widened<T>(head_of(p_, static_cast<const T*>(p_.out), head, 0, 1), p_.length, p_.width,
                      out_scratch_);
    dout_ = widened<T>(head_of(p_, dout_packed_, head, 0, 1), p_.length, p_.width, dout_scratch_);
  }

  void clear_keys(Range rows) {
    for (std::int64_t part = 1; part < 3; ++part) {
      for (std::int64_t r = rows.begin; r < rows.end; ++r) {
        std::fill_n(dqkv_[part].row(r), p_.width, R(0));
      }
    }
  }

  void store(std::int64_t part, Range rows) {
    narrow<T>(target(part), dqkv_[part], rows.begin, rows.end, p_.width);
  }

  void run_tiles(Range queries, Range keys, bool want_queries, bool want_keys) {
    for (std::int64_t i = queries.begin; i < queries.end; ++i) {
      const std::int64_t query = i * kQueryBlock;
      const std::int64_t rows = std::min(kQueryBlock, p_.length - query);
      if (keys.begin * kKeyBlock >= query + rows) continue;  // above the diagonal
      row_dots(rows, p_.width, dout_.row(query), dout_.stride, out_.row(query), out_.stride,
               dot_.data());
      for (std::int64_t j = keys.begin; j < keys.end && j * kKeyBlock < query + rows; ++j) {
        run_tile(query, rows, j * kKeyBlock, want_queries, want_keys);
      }
    }
  }

  // P = softmax(scale Q K'), dP = dO V', dS = P (dP - dot) scale; dQ += dS K, dK += dS' Q, dV += P'
  // dO.
  void run_tile(std::int64_t query, std::int64_t rows, std::int64_t key, bool want_queries,
                bool want_keys) {
    const std::int64_t columns = std::min(kKeyBlock, query + rows - key), width = p_.width;
    const HeadRows<const R> q{qkv_[0].row(query), qkv_[0].stride};
    const HeadRows<const R> k{qkv_[1].row(key), qkv_[1].stride};
    const HeadRows<const R> v{qkv_[2].row(key), qkv_[2].stride};
    const HeadRows<const R> dout{dout_.row(query), dout_.stride};
    const HeadRows<R> scores{scores_.data(), columns}, gradient{gradient_.data(), columns};
    const R scale = score_scale<R>(p_);
    product<R>(rows, columns, width, scale, q, Transpose::no, k, Transpose::yes, R(0), scores);
    product<R>(rows, columns, width, R(1), dout, Transpose::no, v, Transpose::yes, R(0), gradient);
    ScoreTile<R> tile{scores_.data(), rows, columns, query - key + 1, nullptr};
    tile.mask = mask_.draw(tile, head_, query, key);
    softmax_tile_gradient(tile, gradient_.data(),
                          static_cast<const R*>(p_.log_sum_exp) + head_ * p_.length + query,
                          dot_.data(), scale);
    const HeadRows<const R> probability{scores.data, columns}, dscores{gradient.data, columns};
    if (want_queries) {
      product<R>(rows, width, columns, R(1), dscores, Transpose::no, k, Transpose::no,
                 key == 0 ? R(0) : R(1), {dqkv_[0].row(query), dqkv_[0].stride});
    }
    if (want_keys) {
      product<R>(columns, width, rows, R(1), dscores, Transpose::yes, q, Transpose::no, R(1),
                 {dqkv_[1].row(key), dqkv_[1].stride});
      product<R>(columns, width, rows, R(1), probability, Transpose::yes, dout, Transpose::no, R(1),
                 {dqkv_[2].row(key), dqkv_[2].stride});
    }
  }

  const CausalAttention& p_;
  const T* dout_packed_;
  T* dqkv_packed_;
  TileMask<R> mask_;
  std::int64_t head_ = -1;
  HeadRows<const R> qkv_[3], out_, dout_;
  HeadRows<R> dqkv_[3];
  std::vector<R> qkv_scratch_[3], dqkv_scratch_[3], out_scratch_, dout_scratch_;
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
