// Messages between two members, and what the host needs of single flags.
#include "kernels/cuda/collective_message.cuh"

namespace weft::kernels::cuda {
namespace collective {
namespace {

__global__ void await_host_kernel(const std::uint64_t* word, std::uint64_t value,
                                  const Desk* desk) {
  if (threadIdx.x != 0) return;
  while (load_acquire_system(word) < value && load_acquire_system(&desk->abort) == 0) {
    pause_ns(1000);
  }
}

__global__ void say_closed_kernel(std::uint64_t* closed) {
  if (threadIdx.x == 0) store_release_system(closed, std::uint64_t{1});
}

__global__ void write_host_kernel(std::uint64_t* word, std::uint64_t value) {
  if (threadIdx.x == 0) tell({word, value}, false);
}

Shape shape_of(const MessageCall& call) {
  return {static_cast<unsigned>(call.lanes), static_cast<unsigned>(call.threads)};
}

}  // namespace
}  // namespace collective

void send_message(const Party& party, const MessageCall& call, void* stream) {
  launch(collective::send_kernel, collective::shape_of(call), stream, party, call);
}

void receive_message(const Party& party, const MessageCall& call, void* stream) {
  launch(collective::receive_kernel, collective::shape_of(call), stream, party, call);
}

void await_host(const std::uint64_t* word, std::uint64_t value, const Desk* desk, void* stream) {
  launch(collective::await_host_kernel, Shape{1, 32}, stream, word, value, desk);
}

void write_host(std::uint64_t* word, std::uint64_t value, void* stream) {
  launch(collective::write_host_kernel, Shape{1, 32}, stream, word, value);
}

void say_closed(Lobby* lobby, int member, void* stream) {
  launch(collective::say_closed_kernel, Shape{1, 32}, stream, &lobby->closed[member]);
}

}  // namespace weft::kernels::cuda
