#include "launcher/job/devices.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include "launcher/job/cuda_devices.h"
#include "launcher/job/launch_error.h"
#include "launcher/job/placement.h"

namespace weft::launcher {
namespace {

std::optional<int> parse_int(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::string choose_accelerator(const std::string& asked, int cuda_devices) {
  if (asked == "auto") return cuda_devices > 0 ? "cuda" : "cpu";
  if (asked == "cpu") return "cpu";
  if (asked == "mps" || asked == "tpu") {
    refuse(kExitUsage, "--accelerator={}: weft does not support {}; choose cpu or cuda", asked,
           asked == "mps" ? "Apple's MPS" : "TPUs");
  }
  if (cuda_devices == 0) {
    const auto reason = reason_for_no_cuda();
    refuse(kExitUsage,
           "--accelerator={}: no CUDA device is usable here{}{} (see weft info); --accelerator=cpu "
           "runs on the cores",
           asked, reason.empty() ? "" : ": ", reason);
  }
  return "cuda";
}

Devices cpu_devices(const std::string& text, const Machine& machine) {
  Devices devices;
  if (text == "auto") {
    devices.automatic = true;
    devices.count = automatic_ranks(machine);
    return devices;
  }
  const auto count = parse_int(text);
  if (!count || *count <= 0) {
    refuse(
        kExitUsage,
        "--devices={}: `devices` selected with the cpu accelerator should be an int > 0, or auto",
        text);
  }
  if (*count > kRanksPerNodeMax) {
    refuse(kExitUsage, "--devices={}: at most {} ranks on a node", text, kRanksPerNodeMax);
  }
  devices.count = *count;
  return devices;
}

std::vector<int> parse_indices(const std::string& text, int available, bool share) {
  std::vector<int> indices;
  std::string_view rest = text;
  while (!rest.empty()) {  // "0," is device 0, as in Fabric
    const auto comma = rest.find(',');
    const auto index = parse_int(rest.substr(0, comma));
    if (!index)
      refuse(kExitUsage, "--devices={}: expected a count, indices like 0,2, auto or -1", text);
    if (*index < 0 || *index >= available) {
      refuse(kExitUsage, "--devices={}: there is no device {}; this machine has 0 to {}", text,
             *index, available - 1);
    }
    if (!share && std::find(indices.begin(), indices.end(), *index) != indices.end()) {
      refuse(kExitUsage,
             "--devices={}: device {} is named twice; leave one out, or give --share-devices to "
             "have several ranks on it",
             text, *index);
    }
    indices.push_back(*index);
    rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
  }
  return indices;
}

Devices cuda_devices_of(const std::string& text, int available, bool share) {
  Devices devices;
  devices.accelerator = "cuda";
  if (text.find(',') != std::string::npos) {
    devices.indices = parse_indices(text, available, share);
    if (devices.indices.empty()) refuse(kExitUsage, "--devices={}: names no device", text);
    devices.count = static_cast<int>(devices.indices.size());
    return devices;
  }
  devices.automatic = text == "auto" || text == "-1";
  const auto count = devices.automatic ? available : parse_int(text);
  if (!count || *count <= 0) {
    refuse(kExitUsage, "--devices={}: expected a count > 0, indices like 0,2, auto or -1", text);
  }
  if (*count > available && !share) {
    refuse(kExitUsage,
           "--devices={}: this machine has {} CUDA device{}; --share-devices has several ranks on "
           "one",
           text, available, available == 1 ? "" : "s");
  }
  if (*count > kRanksPerNodeMax) {
    refuse(kExitUsage, "--devices={}: at most {} ranks on a node", text, kRanksPerNodeMax);
  }
  devices.count = *count;
  for (int rank = 0; rank < *count; ++rank) devices.indices.push_back(rank % available);
  return devices;
}

}  // namespace

std::string Devices::text() const {
  bool first_ones = true;
  for (std::size_t i = 0; i < indices.size(); ++i) first_ones &= indices[i] == static_cast<int>(i);
  if (first_ones) return std::to_string(count);
  auto list = by_rank();
  if (indices.size() == 1) list += ',';  // "2," is device 2, "2" would be two devices
  return list;
}

std::string Devices::by_rank() const {
  std::string list;
  for (const int index : indices) {
    if (!list.empty()) list += ',';
    list += std::to_string(index);
  }
  return list;
}

Devices resolve_devices(const std::string& accelerator, const std::string& devices,
                        const Machine& machine, int cuda_devices, bool share_devices) {
  if (choose_accelerator(accelerator, cuda_devices) == "cpu") return cpu_devices(devices, machine);
  return cuda_devices_of(devices, cuda_devices, share_devices);
}

}  // namespace weft::launcher
