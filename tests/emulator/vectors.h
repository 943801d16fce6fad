// CUDA's vector types: float4 and its like, with their alignment, and dim3.
#pragma once

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define WEFT_EMULATED_VECTORS(name, type)                                        \
  struct name##1 {                                                               \
    type x;                                                                      \
  };                                                                             \
  struct alignas(2 * sizeof(type)) name##2 {                                     \
    type x, y;                                                                   \
  };                                                                             \
  struct name##3 {                                                               \
    type x, y, z;                                                                \
  };                                                                             \
  struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4 {        \
    type x, y, z, w;                                                             \
  };                                                                             \
  constexpr name##1 make_##name##1(type x) { return {x}; }                       \
  constexpr name##2 make_##name##2(type x, type y) { return {x, y}; }            \
  constexpr name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
  constexpr name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

WEFT_EMULATED_VECTORS(char, signed char)
WEFT_EMULATED_VECTORS(uchar, unsigned char)
WEFT_EMULATED_VECTORS(short, short)
WEFT_EMULATED_VECTORS(ushort, unsigned short)
WEFT_EMULATED_VECTORS(int, int)
WEFT_EMULATED_VECTORS(uint, unsigned)
WEFT_EMULATED_VECTORS(long, long)
WEFT_EMULATED_VECTORS(ulong, unsigned long)
WEFT_EMULATED_VECTORS(longlong, long long)
WEFT_EMULATED_VECTORS(ulonglong, unsigned long long)
WEFT_EMULATED_VECTORS(float, float)
WEFT_EMULATED_VECTORS(double, double)

#undef WEFT_EMULATED_VECTORS
