// Views: which elements they see, that they share them, and that gradients find their way back.
#include <gmock/gmock.h>

#include "tests/tensor/gradcheck.h"

namespace weft::tests {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

Tensor counting(Shape shape) {
  return Tensor::arange(tensor::numel(shape), {DType::f64, {}}).view(std::move(shape));
}

// Element of a tensor by its indices.
double at(const Tensor& tensor, const std::vector<std::int64_t>& indices) {
  std::int64_t offset = 0;
  for (std::size_t d = 0; d < indices.size(); ++d) offset += indices[d] * tensor.strides()[d];
  return tensor.data<double>()[offset];
}

TEST(ViewsTest, ShareElements) {
  const auto base = counting({2, 3, 4});
  const std::vector<Tensor> views = {
      base.view({6, 4}),    base.transpose(0, 2), base.permute({2, 0, 1}),
      base.narrow(1, 0, 2), base.select(0, 0),    base.unsqueeze(1).expand({2, 5, 3, 4}),
      base.unsqueeze(0),    base.flatten(),       base.reshape({4, 6}),
      base.detach()};
  for (std::size_t i = 0; i < views.size(); ++i) {
    EXPECT_EQ(views[i].storage(), base.storage()) << i;
    EXPECT_EQ(views[i].data(), base.data()) << i;
  }
}

TEST(ViewsTest, SeeTheRightElements) {
  const auto base = counting({2, 3, 4});
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::int64_t j = 0; j < 3; ++j) {
      for (std::int64_t k = 0; k < 4; ++k) {
        const auto value = static_cast<double>(12 * i + 4 * j + k);
        EXPECT_EQ(at(base, {i, j, k}), value);
        EXPECT_EQ(at(base.transpose(0, -1), {k, j, i}), value);
        EXPECT_EQ(at(base.permute({1, 2, 0}), {j, k, i}), value);
        EXPECT_EQ(at(base.permute({-2, -1, 0}), {j, k, i}), value);
        EXPECT_EQ(at(base.select(1, j), {i, k}), value);
        EXPECT_EQ(at(base.unsqueeze(-1), {i, j, k, 0}), value);
        EXPECT_EQ(at(base.flatten(1), {i, 4 * j + k}), value);
        EXPECT_EQ(at(base.narrow(-1, k, 1), {i, j, 0}), value);
      }
    }
  }
  EXPECT_EQ(base.flatten(0, 1).shape(), (Shape{6, 4}));
  EXPECT_EQ(Tensor::scalar(1).flatten().shape(), (Shape{1}));
  EXPECT_EQ(base.unsqueeze(0).squeeze(0).shape(), base.shape());
  EXPECT_TRUE(base.squeeze(0).same_as(base));
  EXPECT_EQ(base.narrow(0, 2, 0).numel(), 0);
}

TEST(ViewsTest, NonContiguousTensorsAreViewedWhereStridesAllow) {
  const auto base = counting({4, 3, 5});
  const auto columns = base.narrow(2, 1, 3);  // (4, 3, 3), strides (15, 5, 1)
  EXPECT_EQ(columns.view({12, 3}).storage(), base.storage());
  EXPECT_EQ(columns.view({2, 2, 3, 3}).to_vector<double>(), columns.to_vector<double>());
  EXPECT_EQ(columns.view({4, 3, 1, 3}).to_vector<double>(), columns.to_vector<double>());
  EXPECT_THAT(
      [&] {
        columns.view({4, 9});
      },
      ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("(4, 3, 3)"), HasSubstr("reshape"))));
  EXPECT_EQ(columns.reshape({4, 9}).to_vector<double>(), columns.to_vector<double>());
  const auto turned = base.permute({2, 0, 1});  // strides (1, 15, 5): the last two merge
  EXPECT_EQ(turned.view({5, 12}).to_vector<double>(), turned.to_vector<double>());
  EXPECT_THROW(turned.view({20, 3}), InvalidArgument);
  EXPECT_EQ(turned.reshape({60}).to_vector<double>(), turned.to_vector<double>());
  const auto wide = counting({3}).expand({4, 3});
  EXPECT_THROW(wide.view({12}), InvalidArgument);
  EXPECT_EQ(wide.view({2, 2, 3}).to_vector<double>(), wide.to_vector<double>());
  const auto one = counting({1, 6, 1}).transpose(0, 2);
  EXPECT_EQ(one.view({2, 3}).to_vector<double>(), one.to_vector<double>());
}

TEST(ViewsTest, OneSizeIsInferred) {
  const auto base = counting({2, 6});
  EXPECT_EQ(base.view({-1}).shape(), (Shape{12}));
  EXPECT_EQ(base.view({3, -1, 2}).shape(), (Shape{3, 2, 2}));
  EXPECT_EQ(counting({0, 3}).view({-1, 3}).shape(), (Shape{0, 3}));
  EXPECT_THROW(base.view({-1, -1}), InvalidArgument);
  EXPECT_THROW(base.view({-1, 5}), InvalidArgument);
  EXPECT_THROW(base.view({-2, 6}), InvalidArgument);
  EXPECT_THROW(counting({0, 3}).view({-1, 0}), InvalidArgument);
  EXPECT_THAT([&] { base.view({5}); },
              ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("(2, 6)"), HasSubstr("(5,)"))));
}

TEST(ViewsTest, BadArgumentsAreNamed) {
  const auto base = counting({2, 3});
  EXPECT_THROW(base.transpose(0, 2), InvalidArgument);
  EXPECT_THROW(base.permute({0}), InvalidArgument);
  EXPECT_THROW(base.permute({0, 0}), InvalidArgument);
  EXPECT_THROW(base.permute({0, 1, 0}), InvalidArgument);
  EXPECT_THROW(base.narrow(1, 2, 2), InvalidArgument);
  EXPECT_THROW(base.narrow(1, -1, 2), InvalidArgument);
  EXPECT_THROW(base.narrow(1, 1, std::int64_t{1} << 62), InvalidArgument);
  EXPECT_THROW(base.select(0, 2), InvalidArgument);
  EXPECT_THROW(base.select(0, -3), InvalidArgument);
  EXPECT_THROW(base.expand({3}), InvalidArgument);
  EXPECT_THROW(base.expand({4, 3}), InvalidArgument);
  EXPECT_THROW(base.squeeze(2), InvalidArgument);
  EXPECT_THROW(base.unsqueeze(3), InvalidArgument);
  EXPECT_THROW(base.flatten(1, 0), InvalidArgument);
  EXPECT_THROW((void)base.size(2), InvalidArgument);
  EXPECT_EQ(base.select(0, -1).to_vector<double>(), (std::vector<double>{3, 4, 5}));
}

TEST(ViewsTest, GradientsFindTheirWayBack) {
  const auto square = [](const Tensor& a) { return ops::mul(a, a); };
  const std::vector<TensorFunction> views = {
      [](const auto& in) {
        return in[0].view({6, 4});
      },
      [](const auto& in) {
        return in[0].reshape({3, 8});
      },
      [](const auto& in) {
        return in[0].transpose(0, 2).reshape({6, 4});
      },
      [](const auto& in) {
        return in[0].permute({2, 0, 1});
      },
      [](const auto& in) { return in[0].narrow(1, 1, 2); },
      [](const auto& in) { return in[0].narrow(1, 1, 0); },
      [](const auto& in) { return in[0].select(2, -2); },
      [](const auto& in) {
        return in[0].unsqueeze(1).expand({2, 5, 3, 4});
      },
      [](const auto& in) {
        return in[0].expand({3, 2, 3, 4});
      },
      [](const auto& in) { return in[0].select(0, 0).unsqueeze(0).squeeze(0); },
      [](const auto& in) { return in[0].flatten(1).transpose(0, 1); },
      [](const auto& in) {  // as heads are split and joined
        return in[0]
            .view({2, 3, 2, 2})
            .transpose(1, 2)
            .contiguous()
            .transpose(1, 2)
            .reshape({2, 3, 4});
      }};
  for (std::size_t i = 0; i < views.size(); ++i) {
    EXPECT_TRUE(gradcheck([&](const auto& in) { return square(views[i](in)); },
                          {random_tensor({2, 3, 4}, i)}))
        << "view " << i;
    if (i == 0) continue;  // needs a copy
    EXPECT_TRUE(gradcheck([&](const auto& in) { return square(views[i](in)); },
                          {random_tensor({4, 3, 2}, i).transpose(0, 2)}))
        << "view " << i << " of a transposed tensor";
  }
}

TEST(ViewsTest, SplitPartsMeetInOneGradient) {
  EXPECT_TRUE(gradcheck(
      [](const auto& in) {
        const auto q = in[0].narrow(1, 0, 2), k = in[0].narrow(1, 2, 2), v = in[0].narrow(1, 4, 2);
        return ops::mul(ops::add(q, k), v);
      },
      {random_tensor({3, 6}, 1)}));
}

}  // namespace
}  // namespace weft::tests
