// What the launcher tells people: how the ranks are placed, and why a job failed.
#pragma once

#include <string>
#include <vector>

#include "launcher/job/devices.h"
#include "launcher/job/placement.h"
#include "launcher/job/rank_environment.h"
#include "launcher/job/supervisor.h"

namespace weft::launcher {

// A line about the job and one for each rank of this node, up to eight.
std::string placement_report(const Machine& machine, const Devices& devices,
                             const std::vector<Share>& shares, const RankPlace& first,
                             const JobAddress& address);

// One block on the first failure: who, where, what, how long in, the end of its standard error.
// Empty if all went well.
std::string failure_report(const Outcome& outcome, const std::string& host);

}  // namespace weft::launcher
