#include "comm/cuda/staged.h"

#include <utility>

#include "comm/cuda/staged_job.h"
#include "comm/work_state.h"

namespace weft::comm {

namespace cuda = kernels::cuda;

int Staged::Job::input_blocks(int size) const {
  if (request.buffers.input == nullptr) return 0;
  switch (request.call.collective) {
    case Collective::reduce_scatter:
    case Collective::scatter:
    case Collective::all_to_all:
      return size;
    case Collective::barrier:
      return 0;
    default:
      return 1;
  }
}

int Staged::Job::output_blocks(int size) const {
  if (request.buffers.output == nullptr) return 0;
  switch (request.call.collective) {
    case Collective::all_gather:
    case Collective::gather:
    case Collective::all_to_all:
      return size;
    case Collective::barrier:
      return 0;
    default:
      return 1;
  }
}

Staged::Staged(Communicator::Impl& base, int device, Communicator links, Island* island,
               std::optional<Communicator> across)
    : base_(base),
      device_(device),
      links_(std::move(links)),
      island_(island),
      across_(std::move(across)),
      words_(device),
      desk_memory_(Bytes(sizeof(cuda::Desk))),
      desk_(new (desk_memory_.data()) cuda::Desk{}) {
  lane_of(false, -1);  // its memory is allocated before anybody's kernel waits for another's call
}

Staged::~Staged() { close(true); }

void Staged::close(bool hopeless) {
  std::vector<Lane*> lanes;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    hopeless_ = hopeless_ || hopeless;
    for (auto& [key, lane] : lanes_) {
      lane->changed.notify_all();
      lanes.push_back(lane.get());
    }
  }
  for (Lane* lane : lanes) {
    if (lane->thread.joinable()) lane->thread.join();
  }
  // Before any memory is freed, which waits for the kernels of other threads, and they for this.
  links_.reset();
  across_.reset();
}

Staged::Lane& Staged::lane_of(bool sends, int peer) {
  const std::lock_guard lock(mutex_);
  auto& lane = lanes_[{sends, peer}];
  if (!lane) {
    lane = std::make_unique<Lane>(device_, peer < 0 && island_ != nullptr);
    lane->thread = std::thread([this, mine = lane.get()] { main(*mine); });
  }
  return *lane;
}

Work Staged::start(const Request& request, cuda::Stream stream,
                   const std::shared_ptr<StreamOrder>& order) {
  const cuda::DeviceGuard guard(device_);
  auto job = std::make_unique<Job>(device_);
  job->request = request;
  return enqueue(std::move(job), lane_of(false, -1), stream, order);
}

Work Staged::message(const Call& call, void* data, cuda::Stream stream,
                     const std::shared_ptr<StreamOrder>& order) {
  const cuda::DeviceGuard guard(device_);
  auto job = std::make_unique<Job>(device_);
  job->is_message = true;
  job->request.call = call;
  job->request.input_block = job->request.output_block = call.count;
  const bool sends = call.collective == Collective::send;
  job->request.buffers = {sends ? data : nullptr, sends ? nullptr : data};
  return enqueue(std::move(job), lane_of(sends, call.root), stream, order);
}

// The stream waits until the host says that the job is done.
Work Staged::enqueue(std::unique_ptr<Job> job, Lane& lane, cuda::Stream stream,
                     const std::shared_ptr<StreamOrder>& order) {
  auto state = std::make_shared<Work::State>();
  state->completion = job->completion = std::make_shared<Completion>();
  state->order = [order](cuda::Stream other) { order->let_wait(other); };
  job->released = words_.take();
  // What the lane gets in this order is what the links see in this order.
  order->run(stream, false, [&] {
    job->ready.record(stream);
    cuda::await_host(job->released.word, job->released.value, desk_, stream);
    const std::lock_guard lock(mutex_);
    lane.jobs.push_back(std::move(job));
    lane.changed.notify_one();
  });
  return Work(std::move(state));
}

void Staged::main(Lane& lane) {
  std::unique_lock lock(mutex_);
  for (;;) {
    lane.changed.wait(lock, [&] { return closing_ || !lane.jobs.empty(); });
    if (lane.jobs.empty()) return;
    const std::unique_ptr<Job> job = std::move(lane.jobs.front());
    lane.jobs.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      run(lane, *job);
    } catch (...) {
      error = failure(std::current_exception(), *job);
      // Other streams that wait need not wait any longer.
      __atomic_store_n(&desk_->abort, 1u, __ATOMIC_RELEASE);
    }
    __atomic_store_n(job->released.word, job->released.value, __ATOMIC_RELEASE);
    job->completion->complete(error);
    lock.lock();
  }
}

// The first failure of the links is the communicator's.
std::exception_ptr Staged::failure(std::exception_ptr seen, const Job& job) {
  std::string text;
  ErrorCode code = ErrorCode::io;
  try {
    std::rethrow_exception(seen);
  } catch (const Error& error) {
    code = error.code();
    text = error.what();
  } catch (const std::exception& error) {
    text = error.what();
  }
  if (!base_.engine->failed()) base_.engine->fail({code, text});
  try {
    base_.engine->throw_if_failed();
    return seen;
  } catch (const Error& error) {
    text = error.what();
    if (text.find(", during ") != std::string::npos) return std::current_exception();
    try {
      throw_error(error.code(), fmt::format("{}, during {} on CUDA memory", text,
                                            describe(tag_of(job.request.call, 0))));
    } catch (...) {
      return std::current_exception();
    }
  }
}

bool Staged::gives_up() const { return base_.engine->failed() || hopeless_; }

}  // namespace weft::comm
