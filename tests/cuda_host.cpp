// Runs the device path's kernels on the processor: CUDA's words as plain C++, one thread after the other.
// Compiled by tests/test_kernels.py, which puts a line EXPORT(name) for each kernel into exports.inc.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>
#ifdef __F16C__
#include <immintrin.h>
#endif

#define __device__
#define __global__
using std::min;

struct Index {
    unsigned x, y, z;
};
static Index blockIdx, threadIdx, blockDim;
static void atomicAdd(float* place, float value) { *place += value; }

struct half_t;
static float half_to_float(half_t value);
static half_t float_to_half(float value);

#include "kernels.cu"

// The processor's own conversions: to nearest even, as cvt.rn.
#ifdef __F16C__
static float half_to_float(half_t value) { return _cvtsh_ss(value.bits); }
static half_t float_to_half(float value) { return {(unsigned short)_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT)}; }
#else  // 64-bit Arm
static float half_to_float(half_t value) {
    __fp16 half;
    std::memcpy(&half, &value, sizeof half);
    return half;
}
static half_t float_to_half(float value) {
    __fp16 half = value;
    half_t result;
    std::memcpy(&result, &half, sizeof half);
    return result;
}
#endif

template <typename... Parameters, std::size_t... I>
static void call(void (*kernel)(Parameters...), void** values, std::index_sequence<I...>) {
    kernel(*static_cast<Parameters*>(values[I])...);
}

// `values` are the places of the arguments, as for cuLaunchKernel; `sizes` what the caller believes they take.
template <typename... Parameters>
static int run(void (*kernel)(Parameters...), const unsigned* grid, const unsigned* block, void** values,
               const int* sizes, int count) {
    const int expected[] = {(int)sizeof(Parameters)...};
    if (count != (int)sizeof...(Parameters) || !std::equal(sizes, sizes + count, expected)) return 1;
    blockDim = {block[0], block[1], block[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x)
                for (threadIdx.z = 0; threadIdx.z < block[2]; ++threadIdx.z)
                    for (threadIdx.y = 0; threadIdx.y < block[1]; ++threadIdx.y)
                        for (threadIdx.x = 0; threadIdx.x < block[0]; ++threadIdx.x)
                            call(kernel, values, std::index_sequence_for<Parameters...>{});
    return 0;
}

#define EXPORT(name)                                                                                            \
    extern "C" int host_##name(const unsigned* grid, const unsigned* block, void** values, const int* sizes, \
                               int count) {                                                                     \
        return run(name, grid, block, values, sizes, count);                                                    \
    }
#include "exports.inc"
