# The libraries weft stands on, each behind an imported target. `./dev` installs them from the distribution.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto SSL)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(CBLAS REQUIRED IMPORTED_TARGET openblas)

find_path(WEFT_ASIO_INCLUDE asio.hpp REQUIRED)
add_library(weft_asio INTERFACE)
target_include_directories(weft_asio SYSTEM INTERFACE $<BUILD_INTERFACE:${WEFT_ASIO_INCLUDE}>)
# ASIO_HAS_STD_ALIGNED_ALLOC: else Asio (1.22) finds it only in sources that included a standard header before it, and
# what one source took with operator new another gives to free().
target_compile_definitions(weft_asio INTERFACE ASIO_STANDALONE ASIO_NO_DEPRECATED ASIO_NO_TS_EXECUTORS
                           ASIO_HAS_STD_ALIGNED_ALLOC=1)
target_link_libraries(weft_asio INTERFACE Threads::Threads)

# xxHash with the vector unit chosen at run time, where the package has it (x86); else inlined for the baseline.
find_path(WEFT_XXHASH_INCLUDE xxhash.h REQUIRED)
find_path(WEFT_XXHASH_DISPATCH_INCLUDE xxh_x86dispatch.h)
add_library(weft_xxhash INTERFACE)
target_include_directories(weft_xxhash SYSTEM INTERFACE $<BUILD_INTERFACE:${WEFT_XXHASH_INCLUDE}>)
if(WEFT_XXHASH_DISPATCH_INCLUDE AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_definitions(weft_xxhash INTERFACE "WEFT_XXHASH_HEADER=<xxh_x86dispatch.h>")
  target_link_libraries(weft_xxhash INTERFACE xxhash)
else()
  target_compile_definitions(weft_xxhash INTERFACE XXH_INLINE_ALL "WEFT_XXHASH_HEADER=<xxhash.h>")
endif()

if(WEFT_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
if(WEFT_BUILD_BENCH)
  find_package(benchmark)
endif()

set(WEFT_HAVE_CUDA OFF)
if(WEFT_CUDA)  # ON or AUTO
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc has C++20
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    find_package(CUDAToolkit REQUIRED)
    set(WEFT_HAVE_CUDA ON)
  elseif(NOT WEFT_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "WEFT_CUDA=ON, but no CUDA compiler was found. Put nvcc on PATH or use WEFT_CUDA=AUTO.")
  endif()
endif()
message(STATUS "weft: CUDA backend ${WEFT_HAVE_CUDA}")
