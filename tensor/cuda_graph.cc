#include "tensor/cuda_graph.h"

#include <optional>
#include <utility>

#include "kernels/base/error.h"
#include "kernels/cuda/runtime.h"
#include "tensor/autograd/node.h"
#include "tensor/cuda_allocator.h"
#include "tensor/stream.h"

namespace weft::tensor {
namespace {

namespace cuda = kernels::cuda;

std::uint64_t whole_blocks(std::uint64_t words) { return (words + 3) / 4 * 4; }

// An executable graph.
class Graph {
 public:
  explicit Graph(void* handle) : handle_(handle) {}
  ~Graph() { cuda::destroy_graph(handle_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void launch(const Stream& stream) const { cuda::launch_graph(handle_, stream.handle()); }

 private:
  void* handle_;
};

// What is queued on the stream becomes a graph, unless end() is never reached.
class Capture {
 public:
  explicit Capture(const Stream& stream) : stream_(stream), scope_(stream.device()) {
    cuda::begin_capture(stream.handle());
  }
  ~Capture() {
    if (!ended_) cuda::abandon_capture(stream_.handle());
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  std::unique_ptr<Graph> end() {
    ended_ = true;
    return std::make_unique<Graph>(cuda::end_capture(stream_.handle()));
  }

 private:
  Stream stream_;
  CaptureScope scope_;
  bool ended_ = false;
};

// Draws of the generator are relative to a number in device memory for the scope.
class Advancing {
 public:
  Advancing(Generator& generator, const Tensor& advance) : generator_(generator) {
    generator_.set_advance(static_cast<const std::uint64_t*>(advance.data()));
  }
  ~Advancing() { generator_.set_advance(nullptr); }
  Advancing(const Advancing&) = delete;
  Advancing& operator=(const Advancing&) = delete;

 private:
  Generator& generator_;
};

}  // namespace

struct GraphedStep::Impl {
  Impl(Step what, GraphOptions how);

  void accept(const std::vector<Tensor>& given);
  void run_eagerly();
  void capture();
  void launch();

  Step step;
  GraphOptions options;
  Generator& generator;
  Stream stream;  // of warm-up and capture
  std::shared_ptr<MemoryPool> pool;
  std::vector<Tensor> inputs, outputs;
  int calls = 0;                            // before the capture
  Tensor advance;                           // i64 scalar: added to the captured draws' positions
  std::uint64_t first_draw = 0, draws = 0;  // captured at, and how many words
  std::unique_ptr<Graph> graph;
  Event launched;
  std::int64_t launches = 0;
};

GraphedStep::Impl::Impl(Step what, GraphOptions how)
    : step(std::move(what)),
      options(how),
      generator(how.generator != nullptr ? *how.generator : default_generator()),
      stream(Stream::create(how.device)),
      pool(std::make_shared<MemoryPool>(how.device)),
      advance(Tensor::zeros({}, {DType::i64, how.device})) {}

// Copies the inputs to where the step reads them.
void GraphedStep::Impl::accept(const std::vector<Tensor>& given) {
  const NoGrad no_grad;
  if (calls == 0 && inputs.empty()) {
    const MemoryPool::Scope scope(*pool);
    for (const auto& input : given) {
      if (!input.defined()) fail<InvalidArgument>("GraphedStep: an input is undefined");
      inputs.push_back(Tensor::empty(input.shape(), {input.dtype(), options.device}));
    }
  }
  if (given.size() != inputs.size()) {
    fail<InvalidArgument>("GraphedStep: {} inputs, but the first call had {}", given.size(),
                          inputs.size());
  }
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (given[i].defined() && given[i].shape() == inputs[i].shape() &&
        given[i].dtype() == inputs[i].dtype()) {
      continue;
    }
    fail<InvalidArgument>(
        "GraphedStep: input {} is {} of {}, but the first call's was {} of {}. A graph has fixed "
        "shapes: run an odd batch without it, or drop it",
        i, given[i].defined() ? to_string(given[i].shape()) : "undefined",
        given[i].defined() ? name_of(given[i].dtype()) : "nothing", to_string(inputs[i].shape()),
        name_of(inputs[i].dtype()));
  }
  for (std::size_t i = 0; i < given.size(); ++i) inputs[i].copy_(given[i], true);
}

void GraphedStep::Impl::run_eagerly() {
  const auto callers = Stream::current(options.device);
  stream.wait(callers);
  {
    const StreamGuard guard(stream);
    const MemoryPool::Scope scope(*pool);
    outputs.clear();
    outputs = step(inputs);
  }
  callers.wait(stream);
  for (const auto& output : outputs) output.record_stream(callers);
  ++calls;
}

void GraphedStep::Impl::capture() {
  stream.wait(Stream::current(options.device));
  outputs.clear();
  first_draw = whole_blocks(generator.offset());
  generator.set_offset(first_draw);
  {
    const DeviceGuard device(options.device);
    const StreamGuard guard(stream);
    const MemoryPool::Scope scope(*pool);
    const Advancing advancing(generator, advance);
    Capture capture(stream);
    outputs = step(inputs);
    graph = capture.end();
  }
  draws = whole_blocks(generator.offset() - first_draw);
  generator.set_offset(first_draw);  // nothing was drawn yet
}

void GraphedStep::Impl::launch() {
  const auto callers = Stream::current(options.device);
  callers.wait(launched);
  if (draws > 0) {
    const NoGrad no_grad;
    const auto now = whole_blocks(generator.offset());
    advance.fill_(static_cast<double>(now - first_draw));
    generator.set_offset(now + draws);
  }
  const DeviceGuard device(options.device);
  graph->launch(callers);
  launched.record(callers);
  ++launches;
}

GraphedStep::GraphedStep(Step step, GraphOptions options) {
  require_device(options.device, "GraphedStep");
  if (!step) fail<InvalidArgument>("GraphedStep: the step is empty; pass a callable");
  if (options.warmup < 1) {
    fail<InvalidArgument>(
        "GraphedStep: {} warm-up calls; at least 1 is needed, so that libraries and optimizers "
        "have made what the graph uses",
        options.warmup);
  }
  impl_ = std::make_unique<Impl>(std::move(step), options);
}

GraphedStep::~GraphedStep() {
  if (impl_) impl_->launched.synchronize();
}

const std::vector<Tensor>& GraphedStep::operator()(const std::vector<Tensor>& inputs) {
  auto& step = *impl_;
  if (step.launches > 0) Stream::current(step.options.device).wait(step.launched);
  step.accept(inputs);
  if (!step.graph && step.calls < step.options.warmup) {
    step.run_eagerly();
    return step.outputs;
  }
  if (!step.graph) step.capture();
  step.launch();
  return step.outputs;
}

bool GraphedStep::is_captured() const { return impl_->graph != nullptr; }
std::int64_t GraphedStep::launches() const { return impl_->launches; }

}  // namespace weft::tensor
