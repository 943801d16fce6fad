// Scratch memory: ordered by its stream, from the runtime or from whoever took over.
#include "kernels/cuda/scratch.h"

#include <atomic>

#include "kernels/cuda/attention.h"
#include "tests/gpu/device_array.h"

namespace weft::kernels {
namespace {

class CudaScratchTest : public DeviceTest {
 protected:
  void TearDown() override { cuda::set_scratch_source({}); }
};

TEST_F(CudaScratchTest, IsDeviceMemory) {
  const cuda::Scratch scratch(Bytes(1000), nullptr);
  ASSERT_NE(scratch.data(), nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(scratch.data()) % 256, 0u);
  EXPECT_EQ(cuda::pointer_info(scratch.data()).kind, cuda::MemoryKind::device);
  EXPECT_EQ(cuda::Scratch(Bytes(0), nullptr).data(), nullptr);
}

std::atomic<std::int64_t> taken{0}, given_back{0};

TEST_F(CudaScratchTest, ComesFromTheSourceThatTookOver) {
  taken = given_back = 0;
  cuda::set_scratch_source({[](Bytes bytes, cuda::Stream) {
                              taken += bytes.value;
                              return cuda::allocate(bytes);
                            },
                            [](void* data, Bytes bytes, cuda::Stream) noexcept {
                              given_back += bytes.value;
                              cuda::release(data);
                            }});
  const std::int64_t length = 9, width = 8;
  const DeviceArray<float> qkv(ordinary<float>(static_cast<std::size_t>(length * 3 * width), 1));
  const DeviceArray<float> dout(ordinary<float>(static_cast<std::size_t>(length * width), 2));
  const DeviceArray<float> out(dout.size()), dqkv(qkv.size()), log_sum_exp(std::size_t{9});
  CausalAttention p{DType::f32,         1, length, 1, width, qkv.data(), out.data(),
                    log_sum_exp.data(), {}};
  cuda::causal_attention(p, nullptr);
  EXPECT_EQ(taken.load(), 0);
  cuda::causal_attention_backward(p, dout.data(), dqkv.data(), nullptr);
  EXPECT_EQ(taken.load(), length * 4);
  EXPECT_EQ(given_back.load(), taken.load());
}

}  // namespace
}  // namespace weft::kernels
