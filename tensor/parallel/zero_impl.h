// The inside of Zero, for its files: zero.cc (the face), zero_setup.cc (how a module is shared
// out), zero_gather.cc (parameters of stage 3), zero_gradients.cc.
#pragma once

#include <deque>

#include "kernels/optimizer.h"
#include "tensor/autograd/node.h"
#include "tensor/parallel/zero.h"
#include "tensor/parallel/zero_layout.h"
#include "tensor/part.h"

namespace weft::parallel {

comm::View view_of(const Tensor& tensor);

// A run of symmetric memory, given out piece by piece. All ranks ask alike.
class Arena {
 public:
  void reserve(Bytes bytes) { planned_ += lines(bytes); }
  void allocate(Communicator& communicator);
  Tensor take(Elems count, DType dtype);
  Bytes size() const { return planned_; }
  const std::shared_ptr<std::byte>& memory() const { return memory_; }

 private:
  static Bytes lines(Bytes bytes) { return Bytes((bytes.value + 63) / 64 * 64); }
  Bytes planned_, taken_;
  std::shared_ptr<std::byte> memory_;
};

// Buffers of which each holds one unit at a time. Slot 0 is that of unit 0.
class Slots {
 public:
  static constexpr int kNone = -1;
  void add(Tensor bytes) {
    buffers_.push_back(std::move(bytes));
    owners_.push_back(kNone);
  }
  // A free slot for `unit`, or kNone.
  int acquire(int unit);
  void free(int slot) { owners_[static_cast<std::size_t>(slot)] = kNone; }
  int owner(int slot) const { return owners_[static_cast<std::size_t>(slot)]; }
  int count() const { return static_cast<int>(owners_.size()); }
  std::byte* data(int slot) const {
    return buffers_[static_cast<std::size_t>(slot)].storage()->data();
  }
  Tensor buffer(int slot, Elems count, DType dtype, Bytes at = Bytes(0)) const;

 private:
  std::vector<Tensor> buffers_;
  std::vector<int> owners_;
};

class Zero::Impl final : public tensor::PartOwner, public std::enable_shared_from_this<Zero::Impl> {
 public:
  Impl(nn::Module& module, Communicator& communicator, ZeroOptions options);
  ~Impl() override;
  void share_out();  // once, when shared

  bool alone() const { return communicator_.size() == 1; }
  bool lowered() const { return options_.low.has_value() && !alone(); }
  // Averages lie elsewhere than where gradients are reduced.
  bool averages_apart() const { return options_.stage > 1 || wide_averages(); }
  bool wide_averages() const { return lowered() && *options_.low == DType::f16; }
  void updated() override;
  void end_backward() noexcept;

  // --- zero_gather.cc; they do nothing to values in stages 1 and 2
  void begin_forward(int unit);
  void end_forward(int unit) noexcept;
  void enter_backward(int unit);
  void gather_for_backward();
  void release_all() noexcept;
  void gather_whole();
  void release_whole(bool write_back);
  void round_masters();          // what optimizers updated becomes what is gathered
  void all_gather_parameters();  // stages 1 and 2

  // --- zero_gradients.cc
  void on_ready(int unit, std::size_t index);
  void bind_gradients(int unit);
  void begin_gradients();
  void finish_gradients();
  void drop_gradients() noexcept;
  void carry_averages();
  void note_accumulated();
  void launch_full_units();
  std::vector<std::uint8_t> complete_absent();
  void keep_used(std::vector<std::uint8_t>& used);
  std::vector<Tensor> parts() const;
  std::vector<kernels::FlatTensor> flat_gradients() const;

  struct Unit {
    UnitLayout layout;
    std::vector<Tensor> parts;                 // as layout.parameters
    std::vector<PartRange> ranges;             // likewise
    std::vector<std::int64_t> hooks;           // likewise
    std::shared_ptr<tensor::Storage> storage;  // of the parameters
    Tensor whole;                              // flat: stages 1 and 2
    Tensor share;                              // this rank's, flat
    Tensor master;                             // the same in f32, with `low`
    struct Frozen {                            // stage 3
      std::shared_ptr<tensor::Storage> storage;
      Tensor share;
      std::vector<PartRange> ranges;
      std::vector<Tensor> parts;
      Work gather;
      Tensor gathered_whole;
    } frozen;
    int slot = Slots::kNone;  // stage 3: where it is gathered to
    bool present = false;     // and has arrived
    int depth = 0;            // forward() calls that are running
    Work gather;
    Tensor gathered_whole;  // of a Gathered

    Tensor gradient_share;  // of averages, flat; stage 1: a view of `gradients`
    Tensor gradients;       // flat, of the whole unit, while there are some
    int gradient_slot = Slots::kNone;
    Tensor carried;     // stage 1: averages of earlier backwards
    bool adds = false;  // the reduction on its way is to be added
    bool launched = false;
    std::size_t pending = 0;
    std::vector<char> ready;
    Work scatter;
    int next_forward = Slots::kNone, next_backward = Slots::kNone;
  };

 private:
  struct Hook;
  Unit& at(int unit) { return units_[static_cast<std::size_t>(unit)]; }
  const Unit& at(int unit) const { return units_[static_cast<std::size_t>(unit)]; }
  int unit_count() const { return static_cast<int>(units_.size()); }
  bool averaged(const Unit& unit) const;  // some of its parts have gradients
  Bytes whole_bytes(const Unit& unit) const {
    return unit.layout.share_bytes() * communicator_.size();
  }
  Bytes gathered_bytes(const Unit& unit) const {
    return whole_bytes(unit) + unit.layout.frozen.share_bytes() * communicator_.size();
  }
  bool is_gathered(const Unit& unit) const {
    return unit.slot != Slots::kNone || unit.gathered_whole.defined() ||
           unit.frozen.gathered_whole.defined();
  }
  void require_cpu() const;
  void require_f32() const;
  void plan_memory();
  void take_memory();
  void move_in(int unit);
  void move_in_frozen(int unit);
  void make_parts(int unit);
  void give_part(const Tensor& parameter, Tensor values, const PartRange& range);
  void observe(int unit);

  void start_gather(int unit, bool ahead);
  void await_gather(int unit);
  void place(Unit& unit, std::byte* gathered) noexcept;
  void release(int unit) noexcept;
  bool in_use(int unit) const;
  int free_slot(int unit, bool ahead);
  void note_peak();

  void launch(int unit);
  void complete(int unit);
  void complete_oldest();
  [[noreturn]] void refuse_absent() const;

  friend class Zero;
  nn::Module& module_;                  // while it is set up alone
  std::vector<nn::NamedTensor> whole_;  // what every rank has: frozen parameters and buffers
  std::vector<Tensor> buffers_;
  std::vector<nn::NamedTensor> parameters_;
  Communicator& communicator_;
  ZeroOptions options_;
  std::vector<Unit> units_;
  Arena arena_;
  Slots unit_slots_, gradient_slots_;
  std::deque<int> in_flight_;  // units whose gradients are being reduced
  bool in_backward_ = false;
  bool synchronises_ = true;
  bool broken_ = false;
  bool gathered_ = false;  // by a Gathered
  int backward_unit_ = Slots::kNone;
  int last_forward_ = Slots::kNone, last_backward_ = Slots::kNone;
  int first_forward_ = Slots::kNone, first_backward_ = Slots::kNone;
  EngineTimes times_;
  int next_launch_ = Slots::kNone;  // find_unused_parameters: units are launched in one order
  Bytes gathered_peak_, in_flight_peak_, accumulated_peak_;
};

}  // namespace weft::parallel
