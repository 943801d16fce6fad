#include "comm/communicator.h"

#include <unistd.h>

#include <exception>
#include <utility>

#include "comm/impl.h"
#include "comm/transport/memory/group.h"
#include "comm/work_state.h"

namespace weft::comm {

namespace {
constexpr std::chrono::milliseconds kThrownWait{500};
constexpr std::chrono::milliseconds kAbortWait{300};

Settings with_scratch(Settings settings, const Mesh& mesh) {
  const memory::Group* group = mesh.memory();
  settings.scratch = Bytes(group == nullptr ? 0 : static_cast<std::int64_t>(memory::kRoundBytes));
  return settings;
}

}  // namespace

std::optional<TransportKind> parse_transport(std::string_view name) {
  if (name == "auto" || name == "automatic") return TransportKind::automatic;
  if (name == "inproc") return TransportKind::inproc;
  if (name == "shm") return TransportKind::shm;
  if (name == "tcp") return TransportKind::tcp;
  return std::nullopt;
}

Communicator::Impl::Impl(std::unique_ptr<Mesh> mesh,
                         std::shared_ptr<GroupSupervisor> group_supervisor,
                         std::shared_ptr<Home> splits_from, const Settings& new_settings)
    : rank(mesh->rank()),
      size(mesh->size()),
      settings(with_scratch(new_settings, *mesh)),
      supervisor(std::move(group_supervisor)),
      home(std::move(splits_from)),
      memory(mesh->memory()),
      engine(std::make_shared<Engine>(std::move(mesh), supervisor, new_settings.engine)),
      planner(rank, size, new_settings.lanes, new_settings.algorithm, new_settings.medium,
              new_settings.tuning, settings.scratch, new_settings.engine.crowded, settings.hosts),
      exceptions_at_birth(std::uncaught_exceptions()) {}

// A rank that is thrown out of its work must not look as if it had finished.
Communicator::Impl::~Impl() {
  const bool unwinding = std::uncaught_exceptions() > exceptions_at_birth;
  if (unwinding && !engine->failed()) {
    supervisor->announce(
        {ErrorCode::peer_lost, rank,
         "its communicator was destroyed while an exception was unwinding its stack",
         engine->in_flight()},
        Failure::Source::self);
  }
  if (cuda) cuda->close(unwinding || engine->failed());
  before_close();
  engine->close(!unwinding);
  if (unwinding) {
    supervisor->linger(kThrownWait);
  } else if (aborted) {
    supervisor->linger(kAbortWait);  // or how this process exits becomes the cause
  }
}

void Communicator::Impl::refuse_in_child() const {
  if (process.is_here()) return;
  fail<Unsupported>(
      "rank {}: process {} was forked by the rank, whose communicator it has not: call from the "
      "rank itself, or let the child exec a program that joins as a rank of its own",
      rank, ::getpid());
}

Work Communicator::Impl::start(Prepared prepared) {
  refuse_in_child();
  auto state = std::make_shared<Work::State>();
  state->completion = engine->start(std::move(prepared.operation), prepared.buffers);
  return Work(std::move(state));
}

Communicator::Communicator(std::unique_ptr<Impl> impl) : impl_(impl.release()) {}
// What a child was forked with is left alone: letting go would tell the parent's peers goodbye.
void Communicator::Destroy::operator()(Impl* impl) const {
  if (impl->process.is_here()) delete impl;
}

Communicator::Communicator(Communicator&&) noexcept = default;
Communicator& Communicator::operator=(Communicator&&) noexcept = default;
Communicator::~Communicator() = default;

int Communicator::rank() const { return impl_->rank; }
int Communicator::size() const { return impl_->size; }

std::string_view Communicator::host_of(int rank) const {
  if (rank < 0 || rank >= impl_->size) {
    fail<InvalidArgument>("rank {}: host_of: {} is no rank, expected 0 to {}", impl_->rank, rank,
                          impl_->size - 1);
  }
  return impl_->supervisor->members()[static_cast<std::size_t>(rank)].host;
}

void Communicator::abort(const std::string& reason) {
  Impl& impl = *impl_;
  if (impl.engine->failed()) return;
  impl.aborted = true;
  impl.engine->fail(impl.supervisor->announce(
      {ErrorCode::aborted, impl.rank, "aborted: " + reason, {}}, Failure::Source::self));
}

TrafficCounters Communicator::traffic() const {
  const Engine& engine = *impl_->engine;
  TrafficCounters traffic;
  traffic.bytes_sent = engine.bytes_sent();
  traffic.bytes_received = engine.bytes_received();
  traffic.operations = engine.operations();
  return traffic;
}

}  // namespace weft::comm
