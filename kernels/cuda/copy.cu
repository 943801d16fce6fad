// Strided copies: packs where rows lie side by side on both sides, transposed planes through shared
// memory, conversions of what lies side by side by cast(), everything else element by element.
#include "kernels/cuda/cast.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/map.cuh"
#include "kernels/functors/convert.h"

namespace weft::kernels::cuda {
namespace {

struct MoveBody {
  template <class Word, int N>
  __device__ void operator()(Pack<Word, N>& y, const Pack<Word, N>* x) const {
    y = *x;
  }
};

// ---- planes: the output runs side by side along columns, the input along rows

constexpr int kTileThreads = 256;

template <class Word>
inline constexpr int kTile = sizeof(Word) <= 2 ? 64 : 32;

// Two dimensions of a layout are the planes'; the others count planes.
struct Planes {
  std::int64_t rows, columns, out_row_stride, in_column_stride;
  std::int64_t row_tiles, column_tiles;
  int dims;  // of planes, the first being the outermost
  std::int64_t shape[kDimsMax], out_strides[kDimsMax], in_strides[kDimsMax];
};

template <class Word>
__global__ void __launch_bounds__(kTileThreads)
    transpose_kernel(Planes planes, Word* out, const Word* in) {
  constexpr int kSide = kTile<Word>;
  constexpr int kStep = kTileThreads / kSide;
  // One word more a row, so that columns lie in different banks.
  __shared__ Word tile[kSide][kSide + (sizeof(Word) < 4 ? 4 / sizeof(Word) : 1)];
  std::int64_t block = blockIdx.x;
  const std::int64_t column0 = block % planes.column_tiles * kSide;
  block /= planes.column_tiles;
  const std::int64_t row0 = block % planes.row_tiles * kSide;
  block /= planes.row_tiles;
  for (int d = planes.dims - 1; d >= 0; --d) {
    const std::int64_t index = block % planes.shape[d];
    block /= planes.shape[d];
    out += index * planes.out_strides[d];
    in += index * planes.in_strides[d];
  }
  const int x = static_cast<int>(threadIdx.x) % kSide, y0 = static_cast<int>(threadIdx.x) / kSide;
#pragma unroll 4
  for (int y = y0; y < kSide; y += kStep) {
    if (row0 + x < planes.rows && column0 + y < planes.columns) {
      tile[y][x] = in[(column0 + y) * planes.in_column_stride + row0 + x];
    }
  }
  __syncthreads();
#pragma unroll 4
  for (int y = y0; y < kSide; y += kStep) {
    if (row0 + y < planes.rows && column0 + x < planes.columns) {
      out[(row0 + y) * planes.out_row_stride + column0 + x] = tile[x][y];
    }
  }
}

// The dimension along which the input runs side by side; -1 where there is none apart from the
// last.
int input_row_dim(const strided::Layout& layout) {
  for (int d = 0; d + 1 < layout.dims; ++d) {
    if (layout.strides[1][static_cast<std::size_t>(d)] == 1) return d;
  }
  return -1;
}

template <class Word>
void transpose(const strided::Layout& layout, int row_dim, void* out, const void* in,
               Stream stream) {
  const auto row = static_cast<std::size_t>(row_dim);
  const auto column = static_cast<std::size_t>(layout.dims - 1);
  Planes planes{};
  planes.rows = layout.shape[row];
  planes.columns = layout.shape[column];
  planes.out_row_stride = layout.strides[0][row];
  planes.in_column_stride = layout.strides[1][column];
  planes.row_tiles = (planes.rows + kTile<Word> - 1) / kTile<Word>;
  planes.column_tiles = (planes.columns + kTile<Word> - 1) / kTile<Word>;
  std::int64_t blocks = planes.row_tiles * planes.column_tiles;
  for (std::size_t d = 0; d < column; ++d) {
    if (d == row) continue;
    planes.shape[planes.dims] = layout.shape[d];
    planes.out_strides[planes.dims] = layout.strides[0][d];
    planes.in_strides[planes.dims] = layout.strides[1][d];
    blocks *= layout.shape[d];
    ++planes.dims;
  }
  launch(transpose_kernel<Word>, Shape{static_cast<unsigned>(blocks), kTileThreads}, stream, planes,
         static_cast<Word*>(out), static_cast<const Word*>(in));
}

template <class Word>
void move(const strided::Layout& layout, void* out, const void* in, Stream stream) {
  constexpr std::int64_t kWorthATile = 8;  // rows and columns
  const int row_dim = input_row_dim(layout);
  if (layout.inner_stride(0) == 1 && layout.inner_stride(1) != 1 && row_dim >= 0 &&
      layout.inner_size() >= kWorthATile &&
      layout.shape[static_cast<std::size_t>(row_dim)] >= kWorthATile) {
    return transpose<Word>(layout, row_dim, out, in, stream);
  }
  launch_map<kWidth<Word>, 1>(
      layout, MapOperands<Word, Word, 1>{static_cast<Word*>(out), {static_cast<const Word*>(in)}},
      MoveBody(), stream);
}

// ---- conversions, one element at a time and four in flight; the type read is one branch

constexpr int kConvertThreads = 256;
constexpr int kConvertUnroll = 4;

template <class To>
__device__ __forceinline__ To converted(const void* in, DType from, std::int64_t at) {
  switch (from) {
    case DType::f64:
      return convert<To>(static_cast<const double*>(in)[at]);
    case DType::f32:
      return convert<To>(static_cast<const float*>(in)[at]);
    case DType::f16:
      return convert<To>(static_cast<const Half*>(in)[at]);
    case DType::bf16:
      return convert<To>(static_cast<const BFloat16*>(in)[at]);
    case DType::i64:
      return convert<To>(static_cast<const std::int64_t*>(in)[at]);
    case DType::i32:
      return convert<To>(static_cast<const std::int32_t*>(in)[at]);
    default:
      return convert<To>(static_cast<const std::uint8_t*>(in)[at]);
  }
}

template <class To>
__global__ void __launch_bounds__(kConvertThreads)
    convert_kernel(Walk<2> walk, To* out, const void* in, DType from) {
  const std::int64_t start =
      static_cast<std::int64_t>(blockIdx.x) * (kConvertThreads * kConvertUnroll) + threadIdx.x;
#pragma unroll
  for (int u = 0; u < kConvertUnroll; ++u) {
    const std::int64_t i = start + u * kConvertThreads;
    if (i >= walk.size) break;
    std::int64_t at[2];
    walk.offsets(i, 1, at);
    out[at[0]] = converted<To>(in, from, at[1]);
  }
}

void convert_strided(const strided::Layout& layout, void* out, DType out_type, const void* in,
                     DType in_type, Stream stream) {
  const Place places[] = {{out, size_of(out_type).value}, {in, size_of(in_type).value}};
  const Walk<2> walk = make_walk<2>(layout, places, 1);
  constexpr std::int64_t kEach = kConvertThreads * kConvertUnroll;
  const auto blocks = static_cast<unsigned>((layout.size + kEach - 1) / kEach);
  dispatch(out_type, [&]<class To>() {
    launch(convert_kernel<To>, Shape{blocks, kConvertThreads}, stream, walk, static_cast<To*>(out),
           in, in_type);
  });
}

bool same_strides(const strided::Layout& layout) {
  return std::equal(layout.strides[0].begin(), layout.strides[0].begin() + layout.dims,
                    layout.strides[1].begin());
}

}  // namespace

void copy(Dims shape, Operand out, DType out_type, ConstOperand in, DType in_type, Stream stream) {
  const Dims strides[] = {out.strides, in.strides};
  const strided::Layout layout = strided::make_layout("copy", shape, strides);
  if (layout.size == 0) return;
  if (out_type != in_type) {
    const bool side_by_side =
        layout.dims == 1 && layout.inner_stride(0) == 1 && layout.inner_stride(1) == 1;
    if (side_by_side && out.data != in.data) {
      return cast(out.data, out_type, in.data, in_type, Elems(layout.size), 1.0, stream);
    }
    return convert_strided(layout, out.data, out_type, in.data, in_type, stream);
  }
  if (out.data == in.data && same_strides(layout)) return;
  switch (size_of(out_type).value) {
    case 8:
      return move<std::uint64_t>(layout, out.data, in.data, stream);
    case 4:
      return move<std::uint32_t>(layout, out.data, in.data, stream);
    case 2:
      return move<std::uint16_t>(layout, out.data, in.data, stream);
    default:
      return move<std::uint8_t>(layout, out.data, in.data, stream);
  }
}

}  // namespace weft::kernels::cuda
