// Staged's thread: tiles out of the device, through the links, and back.
#include <algorithm>
#include <cstring>

#include "comm/cuda/staged.h"
#include "comm/cuda/staged_job.h"
#include "kernels/reduce.h"

namespace weft::comm {

namespace cuda = kernels::cuda;

namespace {

constexpr std::chrono::microseconds kPause{50};

std::byte* bytes_at(const void* data, Bytes offset) {
  return static_cast<std::byte*>(const_cast<void*>(data)) + offset.value;
}

}  // namespace

// What the stream of the lane has been given so far, it has done when its mark says so.
void Staged::mark(Lane& lane, int turn) {
  cuda::Finish& finish = lane.marks[static_cast<std::size_t>(turn)];
  finish = words_.take();
  cuda::write_host(finish.word, finish.value, lane.stream.get());
}

void Staged::wait_device(Lane& lane, int turn) {
  const cuda::Finish finish = lane.marks[static_cast<std::size_t>(turn)];
  while (!FinishWords::is_done(finish)) {
    if (gives_up()) fail<Aborted>("the communicator has failed");
    std::this_thread::sleep_for(kPause);
  }
  words_.give_back(finish);
}

void Staged::wait_host(const Work& work) {
  while (!work.test()) {
    if (gives_up()) {
      links_->abort("the communicator has failed");
      if (across_) across_->abort("the communicator has failed");
    }
    std::this_thread::sleep_for(kPause);
  }
  work.wait();
}

void Staged::run(Lane& lane, Job& job) {
  const cuda::DeviceGuard guard(device_);
  if (gives_up()) fail<Aborted>("the communicator has failed");
  job.ready.wait_on(lane.stream.get());
  const bool inside_first = island_ != nullptr && across_ && !job.is_message &&
                            job.request.call.collective == Collective::all_reduce &&
                            job.request.algorithm.empty();
  if (inside_first) {
    run_inside_first(lane, job);
  } else {
    run_tiles(lane, job, Elems(0));
  }
  mark(lane, 0);
  wait_device(lane, 0);
  // Kernels that went wrong end as others do: their watch is about to say why.
  while (island_ != nullptr &&
         __atomic_load_n(&island_->group().desk().trouble, __ATOMIC_ACQUIRE)) {
    if (gives_up()) fail<Aborted>("the communicator has failed");
    std::this_thread::sleep_for(kPause);
  }
}

void Staged::copy_out(Lane& lane, const Job& job, const Tile& tile, int turn) {
  // A broadcast's buffer is its input where it comes from, and its output elsewhere.
  const bool receives =
      job.request.call.collective == Collective::broadcast && base_.rank != job.request.call.root;
  const int blocks = receives ? 0 : job.input_blocks(base_.size);
  const auto& memory = lane.inputs[static_cast<std::size_t>(turn)];
  for (int b = 0; b < blocks; ++b) {
    const Elems from = job.request.input_block * b + tile.begin;
    cuda::copy_async(memory.data() + (job.block_bytes(tile.count) * b).value,
                     bytes_at(job.request.buffers.input, job.block_bytes(from)),
                     job.block_bytes(tile.count), lane.stream.get());
  }
}

void Staged::copy_in(Lane& lane, const Job& job, const Tile& tile, int turn) {
  const bool gave =
      job.request.call.collective == Collective::broadcast && base_.rank == job.request.call.root;
  const int blocks = gave ? 0 : job.output_blocks(base_.size);
  const bool one_buffer = job.request.call.collective == Collective::broadcast;
  const auto& memory = (one_buffer ? lane.inputs : lane.outputs)[static_cast<std::size_t>(turn)];
  for (int b = 0; b < blocks; ++b) {
    const Elems to = job.request.output_block * b + tile.begin;
    cuda::copy_async(bytes_at(job.request.buffers.output, job.block_bytes(to)),
                     memory.data() + (job.block_bytes(tile.count) * b).value,
                     job.block_bytes(tile.count), lane.stream.get());
  }
}

// The same call on pinned memory, of one tile.
Work Staged::collective(Lane& lane, const Job& job, const Tile& tile, int turn) {
  const Call& call = job.request.call;
  const auto k = static_cast<std::size_t>(turn);
  const ConstView input(lane.inputs[k].data(),
                        tile.count * std::max(job.input_blocks(base_.size), 1), call.dtype);
  const View output(lane.outputs[k].data(), tile.count * std::max(job.output_blocks(base_.size), 1),
                    call.dtype);
  const View buffer(lane.inputs[k].data(), tile.count, call.dtype);
  const CallOptions options{job.request.algorithm};
  switch (call.collective) {
    case Collective::all_reduce:
      return links_->all_reduce_async(input, output, call.op, options);
    case Collective::reduce:
      return links_->reduce_async(input, output, call.root, call.op, options);
    case Collective::broadcast:
      return links_->broadcast_async(buffer, call.root, options);
    case Collective::all_gather:
      return links_->all_gather_async(input, output, options);
    case Collective::reduce_scatter:
      return links_->reduce_scatter_async(input, output, call.op, options);
    case Collective::gather:
      return links_->gather_async(input, output, call.root, options);
    case Collective::scatter:
      return links_->scatter_async(input, output, call.root, options);
    case Collective::all_to_all:
      return links_->all_to_all_async(input, output, options);
    case Collective::barrier:
      return links_->barrier_async(options);
    case Collective::send:
      return links_->send_async(ConstView(buffer), call.root);
    case Collective::recv:
      return links_->recv_async(output, call.root);
  }
  return Work();
}

// Tile k+1 leaves the device while the links have tile k.
void Staged::run_tiles(Lane& lane, Job& job, Elems begin) {
  const Elems block = job.request.input_block;
  const int blocks = std::max({job.input_blocks(base_.size), job.output_blocks(base_.size), 1});
  // The same on all ranks, also where a root alone has the wide buffer.
  const bool one_block = job.request.wide_bytes == job.block_bytes(block);
  const std::int64_t wide = one_block || job.is_message ? blocks : base_.size;
  const Elems most(
      std::max<std::int64_t>(kTileBytes / (job.block_bytes(Elems(1)).value * wide), 1));
  const auto tile_at = [&](Elems at) { return Tile{at, std::min(most, block - at)}; };
  int turn = 0;
  Tile tile = tile_at(begin);
  copy_out(lane, job, tile, turn);
  mark(lane, turn);
  for (;;) {
    const Elems next = tile.begin + tile.count;
    const bool more = next < block;
    wait_device(lane, turn);
    if (more) {
      copy_out(lane, job, tile_at(next), turn ^ 1);
      mark(lane, turn ^ 1);
    }
    wait_host(collective(lane, job, tile, turn));
    copy_in(lane, job, tile, turn);
    if (!more) return;
    tile = tile_at(next);
    turn ^= 1;
  }
}

// See the picture in staged.h. What is left when shares are equally long goes as a tile of its own.
void Staged::run_inside_first(Lane& lane, Job& job) {
  const Request& request = job.request;
  cuda_ipc::Group& group = island_->group();
  const std::int64_t members = group.size();
  const std::int64_t element = job.block_bytes(Elems(1)).value;
  const std::int64_t shares = request.input_block.value / members;  // elements of each member
  const std::int64_t most = std::max<std::int64_t>(kTileBytes / (element * members), 1);
  const std::int64_t tiles = (shares + most - 1) / most;
  // Hosts have equally many ranks: the average of their averages is that of all, and no sum has to
  // fit a half. Whole numbers would be cut off twice.
  const bool divides_last = request.call.op == ReduceOp::avg && !is_floating(request.call.dtype);
  const ReduceOp op = divides_last ? ReduceOp::sum : request.call.op;
  const auto share_of = [&](std::int64_t tile) {
    return Elems(std::min(most, shares - tile * most));
  };
  const auto at = [&](const void* data, std::int64_t tile) {
    return bytes_at(data, Bytes(tile * most * members * element));
  };
  const auto inside = [&](Collective collective, std::int64_t tile, const void* in, void* out) {
    IslandCall call;
    call.call = request.call;
    call.call.collective = collective;
    call.call.op = op;
    call.call.count = share_of(tile);
    call.block = share_of(tile);
    call.wide_bytes = Bytes(share_of(tile).value * members * element);
    call.buffers = {in, out};
    island_->run(call, {nullptr, 0}, lane.stream.get(), false);
  };
  const auto begin = [&](std::int64_t tile) {
    const auto k = static_cast<std::size_t>(tile % 2);
    const Bytes bytes(share_of(tile).value * element);
    inside(Collective::reduce_scatter, tile, at(request.buffers.input, tile), lane.shards[k].get());
    cuda::copy_async(lane.inputs[k].data(), lane.shards[k].get(), bytes, lane.stream.get());
    mark(lane, static_cast<int>(k));
  };
  for (std::int64_t tile = 0; tile < std::min<std::int64_t>(tiles, 2); ++tile) begin(tile);
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const auto k = static_cast<std::size_t>(tile % 2);
    const Elems share = share_of(tile);
    wait_device(lane, static_cast<int>(k));
    std::byte* const data = lane.inputs[k].data();
    wait_host(across_->all_reduce_async(View(data, share, request.call.dtype), op));
    if (divides_last) {
      const void* const sum[] = {data};
      kernels::reduce(data, sum, share, request.call.dtype, ReduceOp::avg, base_.size);
    }
    cuda::copy_async(lane.shards[k].get(), data, job.block_bytes(share), lane.stream.get());
    inside(Collective::all_gather, tile, lane.shards[k].get(), at(request.buffers.output, tile));
    // The pinned memory is written again only after it was copied in: the stream sees to that.
    if (tile + 2 < tiles) begin(tile + 2);
  }
  if (shares * members < request.input_block.value || tiles == 0) {
    run_tiles(lane, job, Elems(shares * members));
  }
}

}  // namespace weft::comm
