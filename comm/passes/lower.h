// Message schedules -> memory schedules (schedule/memory_schedule.h).
#pragma once

#include <span>
#include <vector>

#include "comm/schedule/memory_schedule.h"
#include "comm/schedule/schedule.h"

namespace weft::comm {

// world[r] is rank r's schedule, of one lane and not fused; gives rank r's memory schedule at [r].
//
// A send becomes a publish (of a copy in scratch, where the receiver cannot reach the source), a
// receive an await and a copy from the sender's memory, a receive that reduces a fold from there.
// What only passed through scratch is dropped: a fold takes its operands from where they are, all
// in one pass, and (Reach::everything, or into scratch) writes its value to everyone who would copy
// it. Before a source is overwritten, and before a rank finishes, it awaits whoever still reads it.
// In-place use and separate buffers are both right, as in message schedules.
std::vector<MemorySchedule> lower(std::span<const Schedule> world, Reach reach);

}  // namespace weft::comm
