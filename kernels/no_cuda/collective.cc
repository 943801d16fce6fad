// Collective kernels where CUDA is not built.
#include "kernels/cuda/collective.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void run_collective(const Party&, const CollectiveCall&, void*) {
  refuse_without_backend("a collective");
}
void run_small(const Party&, const SmallCall&, void*) {
  refuse_without_backend("a small collective");
}
void send_message(const Party&, const MessageCall&, void*) { refuse_without_backend("send"); }
void receive_message(const Party&, const MessageCall&, void*) { refuse_without_backend("recv"); }
void write_host(std::uint64_t*, std::uint64_t, void*) {
  refuse_without_backend("a word of the host");
}
void await_host(const std::uint64_t*, std::uint64_t, const Desk*, void*) {
  refuse_without_backend("waiting for the host");
}
void say_closed(Lobby*, int, void*) { refuse_without_backend("the end of a group"); }
int collective_blocks_max(DType) { refuse_without_backend("collectives"); }

}  // namespace weft::kernels::cuda
