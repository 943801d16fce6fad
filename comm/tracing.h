// What a communicator does for its traces: says who it is, and measures the other hosts' clocks.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/impl.h"
#include "comm/job.h"

namespace weft::comm {

trace::Options trace_options(const ConnectOptions& options);

// Once the communicator has its name and before its first operation.
void open_trace(Communicator::Impl& impl, const std::string& job);

// What a rank shows the others about its clock: its id if it writes a timeline, else nothing.
Blob clock_to_show(const ConnectOptions& options);

// Collective over the whole job: one rank of every clock that is not rank 0's measures how far
// apart they are, by messages to and fro, now; and again when its communicator is closed, over the
// store, if rank 0 is there to answer within a second. Nothing is sent where all clocks are one,
// or where rank 0 writes no timeline. `clocks[r]`: what rank r showed.
void align_clocks(Communicator::Impl& impl, const std::shared_ptr<Job>& job,
                  const std::vector<Blob>& clocks);

}  // namespace weft::comm
