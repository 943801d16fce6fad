// What `weft info` says of the CUDA devices of this machine.
#pragma once

#include <string>

namespace weft::launcher {

// Devices with their memory, PCI address and nearest CPUs, and who reaches whose memory; one line
// with the reason where there is none. Never throws: what cannot be read is said in its place.
std::string cuda_devices_text();

// The CPUs and the NUMA node that /sys tells of a PCI device ("NUMA node 0, cpus 0-7"); empty where
// it says nothing. `root` is /sys/bus/pci/devices but in tests.
std::string nearest_cpus(const std::string& root, const std::string& pci_bus_id);

}  // namespace weft::launcher
