// Tests that need a device: skipped, with the reason, where there is none.
#pragma once

#include <gtest/gtest.h>

#include "kernels/cuda/runtime.h"

namespace weft::kernels::cuda {

class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (device_count() == 0) GTEST_SKIP() << "no GPU: " << reason_for_none();
  }
};

}  // namespace weft::kernels::cuda
