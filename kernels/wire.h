// f32 values that travel as halves: what a compressing collective does to its messages.
//
// One rounding, to nearest even, is an error of at most wire_unit() * |x|, or wire_tiny()
// where x is so small that the half type has fewer bits for it. f16 ends at 65504: from 65520 on a
// value becomes infinite (bf16 has f32's range and rounds to infinity only above 3.396e38). NaN
// stays NaN. Encoding what was decoded gives the same bytes, so a value may pass through any number
// of ranks and stays what it was after the first.
//
// `wire` is f16 or bf16. Any alignment; buffers do not overlap but where it is said. Runs in the
// calling thread; safe from any thread.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"
#include "kernels/reduce.h"

namespace weft::kernels {

// Unit roundoff: half the distance from 1 to the next larger value. bf16 keeps 8 bits, f16 11.
constexpr double wire_unit(DType wire) { return wire == DType::bf16 ? 0x1p-8 : 0x1p-11; }
// Half the distance between subnormal values.
constexpr double wire_tiny(DType wire) { return wire == DType::bf16 ? 0x1p-134 : 0x1p-25; }

void wire_encode(void* message, DType wire, const void* from, Elems count);
void wire_decode(void* to, const void* message, DType wire, Elems count);
// data[i] = decode(encode(data[i])): what everybody else will have of it.
void wire_round(void* data, DType wire, Elems count);
// message = encode(data), data = decode(message).
void wire_encode_and_round(void* message, DType wire, void* data, Elems count);

// out[i] = decode(message[i]) op own[i], in f32, as kernels::reduce does it; `rounds`: rounded to
// what the wire can carry afterwards. `out` may be `own`.
void wire_reduce(void* out, const void* message, DType wire, const void* own, Elems count,
                 ReduceOp op, std::int64_t divisor, bool rounds);

}  // namespace weft::kernels
