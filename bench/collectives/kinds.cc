#include "bench/collectives/kinds.h"

#include <array>

#include "kernels/base/check.h"

namespace weft::bench {
namespace {

using comm::CallOptions;
using comm::ConstView;
using comm::View;

CallOptions call(const Options& options) {
  return {options.algorithm == "auto" ? std::string_view{} : std::string_view{options.algorithm},
          options.wire};
}

double one(int) { return 1.0; }
double share(int n) { return double(n - 1) / n; }
double twice_share(int n) { return 2.0 * share(n); }

Origin everywhere(const Place&, std::int64_t i) { return {Origin::kEveryRank, i}; }
Origin from_root(const Place& p, std::int64_t i) { return {p.root, i}; }
Origin block_of_sender(const Place& p, std::int64_t i) {
  return {static_cast<int>(i / p.block), i % p.block};
}
Origin my_block_of_all(const Place& p, std::int64_t i) {
  return {Origin::kEveryRank, p.rank * p.block + i};
}
Origin my_block_of_root(const Place& p, std::int64_t i) { return {p.root, p.rank * p.block + i}; }
Origin my_block_of_sender(const Place& p, std::int64_t i) {
  return {static_cast<int>(i / p.block), p.rank * p.block + i % p.block};
}
Origin from_neighbour(const Place& p, std::int64_t i) {
  return {(p.rank + p.world_size - 1) % p.world_size, i};
}

void exchange_with_neighbours(Communicator& c, ConstView in, View out, const Options&) {
  const int n = c.size();
  const auto received = c.recv_async(out, (c.rank() + n - 1) % n);
  c.send(in, (c.rank() + 1) % n);
  received.wait();
}
Work start_with_neighbours(Communicator& c, ConstView in, View out, const Options&) {
  const int n = c.size();
  const auto received = c.recv_async(out, (c.rank() + n - 1) % n);
  c.send_async(in, (c.rank() + 1) % n);  // complete whenever the neighbour's receive is
  return received;
}

Work queue_with_neighbours(const DeviceCalls& d, ConstView in, View out, const Options&) {
  const int n = d.cuda.size();
  const auto received = d.cuda.recv(out, (d.cuda.rank() + n - 1) % n, d.receiving);
  d.cuda.send(in, (d.cuda.rank() + 1) % n, d.stream);
  received.wait_on(d.stream);
  return received;
}

using C = Communicator;
using D = DeviceCalls;
using O = Options;

const std::array<Kind, 10> kKinds = {{
    {.name = "all_reduce",
     .reducing = true,
     .bus_factor = twice_share,
     .origin = everywhere,
     .run = [](C& c, ConstView in, View out, const O& o) { c.all_reduce(in, out, o.op, call(o)); },
     .start = [](C& c, ConstView in, View out,
                 const O& o) { return c.all_reduce_async(in, out, o.op, call(o)); },
     .queue = [](const D& d, ConstView in, View out,
                 const O& o) { return d.cuda.all_reduce(in, out, o.op, d.stream, call(o)); }},
    {.name = "reduce",
     .reducing = true,
     .rooted = true,
     .output_on_root_only = true,
     .bus_factor = one,
     .origin = everywhere,
     .run = [](C& c, ConstView in, View out,
               const O& o) { c.reduce(in, out, o.root, o.op, call(o)); },
     .start = [](C& c, ConstView in, View out,
                 const O& o) { return c.reduce_async(in, out, o.root, o.op, call(o)); },
     .queue = [](const D& d, ConstView in, View out,
                 const O& o) { return d.cuda.reduce(in, out, o.root, o.op, d.stream, call(o)); }},
    {.name = "broadcast",
     .rooted = true,
     .out_of_place = false,
     .bus_factor = one,
     .origin = from_root,
     .run = [](C& c, ConstView, View out, const O& o) { c.broadcast(out, o.root, call(o)); },
     .start = [](C& c, ConstView, View out,
                 const O& o) { return c.broadcast_async(out, o.root, call(o)); },
     .queue = [](const D& d, ConstView, View out,
                 const O& o) { return d.cuda.broadcast(out, o.root, d.stream, call(o)); }},
    {.name = "all_gather",
     .wide_output = true,
     .bus_factor = share,
     .origin = block_of_sender,
     .run = [](C& c, ConstView in, View out, const O& o) { c.all_gather(in, out, call(o)); },
     .start = [](C& c, ConstView in, View out,
                 const O& o) { return c.all_gather_async(in, out, call(o)); },
     .queue = [](const D& d, ConstView in, View out,
                 const O& o) { return d.cuda.all_gather(in, out, d.stream, call(o)); }},
    {.name = "reduce_scatter",
     .wide_input = true,
     .reducing = true,
     .bus_factor = share,
     .origin = my_block_of_all,
     .run = [](C& c, ConstView in, View out,
               const O& o) { c.reduce_scatter(in, out, o.op, call(o)); },
     .start = [](C& c, ConstView in, View out,
                 const O& o) { return c.reduce_scatter_async(in, out, o.op, call(o)); },
     .queue = [](const D& d, ConstView in, View out,
                 const O& o) { return d.cuda.reduce_scatter(in, out, o.op, d.stream, call(o)); }},
    {.name = "gather",
     .wide_output = true,
     .rooted = true,
     .output_on_root_only = true,
     .bus_factor = share,
     .origin = block_of_sender,
     .run = [](C& c, ConstView in, View out, const O& o) { c.gather(in, out, o.root, call(o)); },
     .start = [](C& c, ConstView in, View out,
                 const O& o) { return c.gather_async(in, out, o.root, call(o)); },
     .queue = [](const D& d, ConstView in, View out,
                 const O& o) { return d.cuda.gather(in, out, o.root, d.stream, call(o)); }},
    {.name = "scatter",
     .wide_input = true,
     .rooted = true,
     .bus_factor = share,
     .origin = my_block_of_root,
     .run = [](C& c, ConstView in, View out, const O& o) { c.scatter(in, out, o.root, call(o)); },
     .start = [](C& c, ConstView in, View out,
                 const O& o) { return c.scatter_async(in, out, o.root, call(o)); },
     .queue = [](const D& d, ConstView in, View out,
                 const O& o) { return d.cuda.scatter(in, out, o.root, d.stream, call(o)); }},
    {.name = "all_to_all",
     .wide_input = true,
     .wide_output = true,
     .in_place = false,
     .bus_factor = share,
     .origin = my_block_of_sender,
     .run = [](C& c, ConstView in, View out, const O& o) { c.all_to_all(in, out, call(o)); },
     .start = [](C& c, ConstView in, View out,
                 const O& o) { return c.all_to_all_async(in, out, call(o)); },
     .queue = [](const D& d, ConstView in, View out,
                 const O& o) { return d.cuda.all_to_all(in, out, d.stream, call(o)); }},
    {.name = "send_recv",
     .in_place = false,
     .bus_factor = one,
     .origin = from_neighbour,
     .run = exchange_with_neighbours,
     .start = start_with_neighbours,
     .queue = queue_with_neighbours},
    {.name = "barrier",
     .out_of_place = false,
     .bus_factor = one,
     .origin = everywhere,
     .run = [](C& c, ConstView, View, const O& o) { c.barrier(call(o)); },
     .start = [](C& c, ConstView, View, const O& o) { return c.barrier_async(call(o)); },
     .queue = [](const D& d, ConstView, View,
                 const O& o) { return d.cuda.barrier(d.stream, call(o)); }},
}};

}  // namespace

const Kind& find_kind(std::string_view name) {
  for (const auto& kind : kKinds) {
    if (kind.name == name) return kind;
  }
  WEFT_ASSERT(false, "options.cc admits only names of this table");
  return kKinds[0];
}

}  // namespace weft::bench
