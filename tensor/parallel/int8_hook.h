// Averages buckets of f32 gradients as int8, with error feedback.
//
// A bucket is cut into one chunk a rank, whole blocks of 256 values each:
//
//   launch    rank r adds its residual to its gradients, packs the chunks of the other ranks and
//             keeps what that lost as the new residual; its own chunk stays exact
//             -- all_to_all: chunk c of everybody goes to rank c --
//   proceed   rank r unpacks its chunk of everybody, adds them in f32 (its own first, then in the
//             order of ranks), divides by n, packs the average and keeps what that lost, times n,
//             as the residual of its own chunk: it is the only one who will add it
//             -- all_gather: the packed averages --
//   finish    all ranks unpack the same bytes: the same bits everywhere
//
// The second collective of bucket b is made when bucket b + 2 is launched: by then the first one
// has had the time of a bucket, the order is the same on all ranks, and the network has bucket
// b + 1 to work on if somebody has to wait.
//
// Why errors do not add up. Let v = g + e be what a rank packs: e' = v - unpacked, so the unpacked
// values of all steps sum to the sum of g minus the last e. |e| is at most half a scale, max|v| /
// 254 over the block, hence max|v| <= G + max|v| / 254 with G = max|g|, and |e| <= G / 253. The
// average of such v's is no larger than they are; with its own feedback its loss d is at most
// G / 251, and enters as n d through one of n contributions. The sums over steps differ by the mean
// of the ranks' last e: at most G/253 + G/251 < G/125. After a regrouping an owner's n d may be
// packed like any other: for one step that widens a scale by n/251, which is why G / 60 is stated
// (for up to 500 ranks).
#pragma once

#include "tensor/parallel/comm_hook.h"

namespace weft::parallel {

class Int8Hook : public CommHook {
 public:
  void regroup(std::span<const GradBucket> buckets) override;
  void launch(const GradBucket& bucket, Communicator& communicator) override;
  void proceed(const GradBucket& bucket, Communicator& communicator) override;
  std::chrono::nanoseconds finish(const GradBucket& bucket, Communicator& communicator) override;

  // What is owed to the gradients of a bucket, in the places of its buffer; for tests.
  const Tensor& residual(std::int32_t bucket) const {
    return flights_.at(static_cast<std::size_t>(bucket)).residual;
  }

 private:
  struct Flight {
    GradBucket bucket;
    Tensor residual;  // f32, as long as the buffer; undefined where buckets travel as they are
    Tensor packed;    // u8: all chunks; first what goes out, then the averages
    Tensor received;  // u8: this rank's chunk of everybody
    bool proceeded = false;
    Work work;
    std::chrono::nanoseconds first{0};  // how long the all_to_all took
  };
  class Chunks;

  Flight& at(const GradBucket& bucket) {
    return flights_.at(static_cast<std::size_t>(bucket.index));
  }

  std::vector<Flight> flights_;
};

}  // namespace weft::parallel
