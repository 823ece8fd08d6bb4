// The device path's own kernels: sampling, splatting, and colours between planes and RGB.
//
// Compiled at run time by NVRTC (kernels.py). No header is included: not every installation ships them beside NVRTC.
// Coordinates, sums and colours are float32 whatever the images' type. Each kernel names the torch code that it must
// agree with; tests/test_kernels.py runs this very file on the processor against it and compiles it for several cards.

struct half_t {
    unsigned short bits;
};

#ifdef __CUDACC__
__device__ inline float half_to_float(half_t value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

__device__ inline half_t float_to_half(float value) {
    half_t result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
#endif

__device__ inline float load(const float* place) { return *place; }
__device__ inline float load(const half_t* place) { return half_to_float(*place); }
__device__ inline float load(const unsigned char* place) { return (float)*place; }
__device__ inline float load(const unsigned short* place) { return (float)*place; }
__device__ inline void store(float* place, float value) { *place = value; }
__device__ inline void store(half_t* place, float value) { *place = float_to_half(value); }

// NaN becomes `low`, as it does in PyTorch's grid_sample on the device.
__device__ inline float clamped(float value, float low, float high) { return fminf(fmaxf(value, low), high); }

// ---- Backward warping: warp.py, backward_warp and backward_warp_reduced (of corner means).
//
// Each of the out_height x out_width results takes the image (n, channels, height, width) at
//   (index + 0.5) * ratio - 0.5 - shift + flow
// in pixels, bilinearly, the edge pixel beyond the edge. Strides are in elements: batch, channel, row, column.
// One thread a result, all channels. Grid: x over columns, y over rows, z over the batch.
template <typename T>
__device__ inline void sample(
    const T* image, const float* flow, T* out, int channels, int height, int width, int out_height, int out_width,
    int image_n, int image_c, int image_y, int image_x, int flow_n, int flow_c, int flow_y, int flow_x, int out_n,
    int out_c, int out_y, int out_x, float ratio_y, float ratio_x, float shift) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.z;
    if (x >= out_width || y >= out_height) return;
    const float* vector = flow + (long long)n * flow_n + y * flow_y + x * flow_x;
    float at_x = clamped(vector[0] + ((x + 0.5f) * ratio_x - 0.5f - shift), 0.0f, (float)(width - 1));
    float at_y = clamped(vector[flow_c] + ((y + 0.5f) * ratio_y - 0.5f - shift), 0.0f, (float)(height - 1));
    int left = (int)at_x, top = (int)at_y;
    float right_share = at_x - left, bottom_share = at_y - top;
    int to_right = left + 1 < width ? image_x : 0, to_bottom = top + 1 < height ? image_y : 0;
    float w00 = (1 - right_share) * (1 - bottom_share), w01 = right_share * (1 - bottom_share);
    float w10 = (1 - right_share) * bottom_share, w11 = right_share * bottom_share;
    const T* from = image + (long long)n * image_n + top * image_y + left * image_x;
    T* to = out + (long long)n * out_n + y * out_y + x * out_x;
    for (int c = 0; c < channels; ++c, from += image_c, to += out_c) {
        float value = load(from) * w00;
        value += load(from + to_right) * w01;
        value += load(from + to_bottom) * w10;
        value += load(from + to_bottom + to_right) * w11;
        store(to, value);
    }
}

// ---- Forward warping: warp.py, splat.
//
// `splat_add` spreads `values` (n, channels, height, width) and a weight, exp(metric) or 1 where that is null, over the
// four pixels around each landing point: into `total` (n, channels + 1, height, width), which the caller has zeroed.
// Values, metric and total lie densely. One thread a source pixel. The order of additions, so the last bit, varies.
template <typename T>
__device__ inline void splat_add(
    const T* values, const float* metric, const float* flow, float* total, int channels, int height, int width,
    int flow_n, int flow_c, int flow_y, int flow_x) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.z;
    if (x >= width || y >= height) return;
    const float* vector = flow + (long long)n * flow_n + y * flow_y + x * flow_x;
    float at_x = x + vector[0], at_y = y + vector[flow_c];
    if (!(at_x > -1 && at_x < width && at_y > -1 && at_y < height)) return;  // NaN too
    int left = (int)floorf(at_x), top = (int)floorf(at_y);
    float right_share = at_x - left, bottom_share = at_y - top;
    int plane = height * width, pixel = y * width + x;
    float weight = metric ? expf(metric[(long long)n * plane + pixel]) : 1.0f;
    for (int corner = 0; corner < 4; ++corner) {
        int to_x = left + (corner & 1), to_y = top + (corner >> 1);
        if (to_x < 0 || to_x >= width || to_y < 0 || to_y >= height) continue;
        float share = (corner & 1 ? right_share : 1 - right_share) * (corner >> 1 ? bottom_share : 1 - bottom_share);
        float* to = total + (long long)n * (channels + 1) * plane + to_y * width + to_x;
        const T* from = values + (long long)n * channels * plane + pixel;
        for (int c = 0; c < channels; ++c, to += plane, from += plane) atomicAdd(to, load(from) * weight * share);
        atomicAdd(to, weight * share);
    }
}

// Sums over weights; 0 where nothing arrived. One thread a pixel.
template <typename T>
__device__ inline void splat_average(const float* total, T* out, int channels, int plane) {
    int pixel = blockIdx.x * blockDim.x + threadIdx.x, n = blockIdx.z;
    if (pixel >= plane) return;
    const float* from = total + (long long)n * (channels + 1) * plane + pixel;
    float sum = from[(long long)channels * plane] + 1e-7f;
    T* to = out + (long long)n * channels * plane + pixel;
    for (int c = 0; c < channels; ++c, to += plane, from += plane) store(to, *from / sum);
}

// ---- Colours: engines/colour.py, to_rgb and to_planes.

enum Kind { GRAY = 0, YUV = 1, RGB = 2 };  // RGB: planes are green, blue, red

template <typename S>
__device__ inline float chroma_at(const S* plane, float x, float y, int width, int height) {
    int left = (int)x, top = (int)y;
    float right_share = x - left, bottom_share = y - top;
    const S* row = plane + top * width;
    const S* below = top + 1 < height ? row + width : row;
    int right = left + 1 < width ? left + 1 : left;
    return (1 - bottom_share) * ((1 - right_share) * load(row + left) + right_share * load(row + right)) +
           bottom_share * ((1 - right_share) * load(below + left) + right_share * load(below + right));
}

__device__ inline float mixed(float a, float b, float c, float x, float y, float z) { return a * x + b * y + c * z; }

// Samples of planes (dense, chroma reduced by 2^shift) -> RGB in 0..1, (3, out_height, out_width) with the last column
// and row of the picture repeated to the right of and below it. Chroma is enlarged bilinearly. One thread a pixel.
template <typename S, typename T>
__device__ inline void planes_to_rgb(
    const S* first, const S* second, const S* third, T* rgb, int kind, int width, int height, int chroma_width,
    int chroma_height, int shift_x, int shift_y, int out_width, int out_height, float black, float luma_range,
    float neutral, float chroma_range, float ry, float ru, float rv, float gy, float gu, float gv, float by, float bu,
    float bv) {
    int out_x = blockIdx.x * blockDim.x + threadIdx.x, out_y = blockIdx.y * blockDim.y + threadIdx.y;
    if (out_x >= out_width || out_y >= out_height) return;
    int x = min(out_x, width - 1), y = min(out_y, height - 1);
    float luma = (load(first + y * width + x) - black) / luma_range;
    float red = luma, green = luma, blue = luma;
    if (kind == RGB) {
        blue = (load(second + y * width + x) - black) / luma_range;
        red = (load(third + y * width + x) - black) / luma_range;
    } else if (kind == YUV) {
        float at_x = fmaxf((x + 0.5f) / (1 << shift_x) - 0.5f, 0.0f);
        float at_y = fmaxf((y + 0.5f) / (1 << shift_y) - 0.5f, 0.0f);
        float u = (chroma_at(second, at_x, at_y, chroma_width, chroma_height) - neutral) / chroma_range;
        float v = (chroma_at(third, at_x, at_y, chroma_width, chroma_height) - neutral) / chroma_range;
        red = mixed(ry, ru, rv, luma, u, v);
        green = mixed(gy, gu, gv, luma, u, v);
        blue = mixed(by, bu, bv, luma, u, v);
    }
    int plane = out_width * out_height;
    T* to = rgb + out_y * out_width + out_x;
    store(to, clamped(red, 0.0f, 1.0f));
    store(to + plane, clamped(green, 0.0f, 1.0f));
    store(to + 2 * plane, clamped(blue, 0.0f, 1.0f));
}

// RGB, (3, >= height, >= width) with the given strides, -> rounded samples of planes; chroma is averaged over the pixels
// of its sample, the last column and row repeated. One thread a chroma sample (a pixel where chroma is not reduced).
template <typename S, typename T>
__device__ inline void rgb_to_planes(
    const T* rgb, S* first, S* second, S* third, int kind, int width, int height, int chroma_width, int chroma_height,
    int shift_x, int shift_y, int rgb_c, int rgb_y, int rgb_x, float top, float black, float luma_range, float neutral,
    float chroma_range, float yr, float yg, float yb, float ur, float ug, float ub, float vr, float vg, float vb) {
    int chroma_x = blockIdx.x * blockDim.x + threadIdx.x, chroma_y = blockIdx.y * blockDim.y + threadIdx.y;
    if (chroma_x >= chroma_width || chroma_y >= chroma_height) return;
    float sum_u = 0, sum_v = 0;
    for (int i = 0; i < 1 << shift_y; ++i) {
        for (int j = 0; j < 1 << shift_x; ++j) {
            int wanted_x = (chroma_x << shift_x) + j, wanted_y = (chroma_y << shift_y) + i;
            int x = min(wanted_x, width - 1), y = min(wanted_y, height - 1);
            const T* from = rgb + (long long)y * rgb_y + (long long)x * rgb_x;
            float red = clamped(load(from), 0.0f, 1.0f), green = clamped(load(from + rgb_c), 0.0f, 1.0f);
            float blue = clamped(load(from + 2 * rgb_c), 0.0f, 1.0f);
            int pixel = y * width + x;
            if (kind == RGB) {
                first[pixel] = (S)clamped(rintf(green * luma_range + black), 0.0f, top);
                second[pixel] = (S)clamped(rintf(blue * luma_range + black), 0.0f, top);
                third[pixel] = (S)clamped(rintf(red * luma_range + black), 0.0f, top);
                continue;
            }
            if (wanted_x == x && wanted_y == y)
                first[pixel] = (S)clamped(rintf(mixed(yr, yg, yb, red, green, blue) * luma_range + black), 0.0f, top);
            sum_u += mixed(ur, ug, ub, red, green, blue) * chroma_range + neutral;
            sum_v += mixed(vr, vg, vb, red, green, blue) * chroma_range + neutral;
        }
    }
    if (kind != YUV) return;
    float count = (float)(1 << (shift_x + shift_y));
    second[chroma_y * chroma_width + chroma_x] = (S)clamped(rintf(sum_u / count), 0.0f, top);
    third[chroma_y * chroma_width + chroma_x] = (S)clamped(rintf(sum_v / count), 0.0f, top);
}

// ---- What is launched: one function a type, by plain names.

#define SAMPLE(T, NAME)                                                                                               \
    extern "C" __global__ void NAME(                                                                                  \
        const T* __restrict__ image, const float* __restrict__ flow, T* __restrict__ out, int channels, int height,   \
        int width, int out_height, int out_width, int image_n, int image_c, int image_y, int image_x, int flow_n,     \
        int flow_c, int flow_y, int flow_x, int out_n, int out_c, int out_y, int out_x, float ratio_y, float ratio_x, \
        float shift) {                                                                                                \
        sample(image, flow, out, channels, height, width, out_height, out_width, image_n, image_c, image_y, image_x,  \
               flow_n, flow_c, flow_y, flow_x, out_n, out_c, out_y, out_x, ratio_y, ratio_x, shift);                  \
    }
SAMPLE(float, sample_f32)
SAMPLE(half_t, sample_f16)

#define SPLAT(T, ADD, AVERAGE)                                                                                        \
    extern "C" __global__ void ADD(                                                                                   \
        const T* values, const float* metric, const float* flow, float* total, int channels, int height, int width,   \
        int flow_n, int flow_c, int flow_y, int flow_x) {                                                             \
        splat_add(values, metric, flow, total, channels, height, width, flow_n, flow_c, flow_y, flow_x);              \
    }                                                                                                                 \
    extern "C" __global__ void AVERAGE(const float* total, T* out, int channels, int plane) {                         \
        splat_average(total, out, channels, plane);                                                                   \
    }
SPLAT(float, splat_add_f32, splat_average_f32)
SPLAT(half_t, splat_add_f16, splat_average_f16)

#define COLOURS(S, T, TO_RGB, TO_PLANES)                                                                              \
    extern "C" __global__ void TO_RGB(                                                                                \
        const S* first, const S* second, const S* third, T* rgb, int kind, int width, int height, int chroma_width,   \
        int chroma_height, int shift_x, int shift_y, int out_width, int out_height, float black, float luma_range,    \
        float neutral, float chroma_range, float ry, float ru, float rv, float gy, float gu, float gv, float by,      \
        float bu, float bv) {                                                                                         \
        planes_to_rgb(first, second, third, rgb, kind, width, height, chroma_width, chroma_height, shift_x, shift_y,  \
                      out_width, out_height, black, luma_range, neutral, chroma_range, ry, ru, rv, gy, gu, gv, by,    \
                      bu, bv);                                                                                        \
    }                                                                                                                 \
    extern "C" __global__ void TO_PLANES(                                                                             \
        const T* rgb, S* first, S* second, S* third, int kind, int width, int height, int chroma_width,               \
        int chroma_height, int shift_x, int shift_y, int rgb_c, int rgb_y, int rgb_x, float top, float black,         \
        float luma_range, float neutral, float chroma_range, float yr, float yg, float yb, float ur, float ug,        \
        float ub, float vr, float vg, float vb) {                                                                     \
        rgb_to_planes(rgb, first, second, third, kind, width, height, chroma_width, chroma_height, shift_x, shift_y,  \
                      rgb_c, rgb_y, rgb_x, top, black, luma_range, neutral, chroma_range, yr, yg, yb, ur, ug, ub, vr, \
                      vg, vb);                                                                                        \
    }
COLOURS(unsigned char, float, planes8_to_rgb_f32, rgb_f32_to_planes8)
COLOURS(unsigned char, half_t, planes8_to_rgb_f16, rgb_f16_to_planes8)
COLOURS(unsigned short, float, planes16_to_rgb_f32, rgb_f32_to_planes16)
COLOURS(unsigned short, half_t, planes16_to_rgb_f16, rgb_f16_to_planes16)
