// CUDA on a CPU, as far as the kernels of this package need it: enough for g++ to
// compile their very sources, and for a test to execute them. For tests only.
//
// A warp is 32 threads of the operating system that meet at a barrier for every
// shuffle; a launch that shuffles nothing (one thread a pair) is run on one thread.
// Warps run one after the other, so that the order of updates is known.

#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#define __CUDA_ARCH__ 900
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)

using std::isfinite;

struct Dim3 {
    unsigned x = 0, y = 0, z = 0;
};
inline thread_local Dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class T>
T __ldg(const T* address) {
    return *address;
}
template <class T>
T __ldcg(const T* address) {
    return *address;
}

template <class T>
T atomicAdd(T* address, T value) {
    return std::atomic_ref<T>(*address).fetch_add(value);
}
inline void atomicAdd(float4* address, float4 value) {
    if (reinterpret_cast<std::size_t>(address) % 16 != 0) {
        std::fprintf(stderr, "atomicAdd: address not aligned to 16 bytes\n");
        std::abort();
    }
    atomicAdd(&address->x, value.x);
    atomicAdd(&address->y, value.y);
    atomicAdd(&address->z, value.z);
    atomicAdd(&address->w, value.w);
}

inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
[[noreturn]] inline void __trap() { std::abort(); }

struct Warp {
    std::barrier<> meeting{32};
    std::atomic<int> alive{32};
    unsigned long long values[32];
    int lines[32];
};
inline thread_local Warp* warp = nullptr;
inline thread_local int warp_lane = 0;

// The value of another lane. All 32 must come, and from the same line of the source.
template <class T>
T exchange(T value, int source, int line) {
    static_assert(sizeof(T) <= sizeof(unsigned long long));
    if (warp == nullptr || warp->alive != 32) {
        std::fprintf(stderr, "line %d: a shuffle without the whole warp\n", line);
        std::abort();
    }
    std::memcpy(&warp->values[warp_lane], &value, sizeof(T));
    warp->lines[warp_lane] = line;
    warp->meeting.arrive_and_wait();
    if (warp->lines[source] != line) {
        std::fprintf(stderr, "lines %d and %d: a warp apart\n", line, warp->lines[source]);
        std::abort();
    }
    std::memcpy(&value, &warp->values[source], sizeof(T));
    warp->meeting.arrive_and_wait();
    return value;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width, int line = __builtin_LINE()) {
    if (mask != 0xFFFFFFFFu) std::abort();
    return exchange(value, (warp_lane & ~(width - 1)) | (source & (width - 1)), line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int offset, int line = __builtin_LINE()) {
    if (mask != 0xFFFFFFFFu) std::abort();
    return exchange(value, warp_lane ^ offset, line);
}

// Run a kernel as cuLaunchKernel would: arguments are pointers to values.
template <class... Arguments, std::size_t... Index>
void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<Index...>) {
    kernel(*static_cast<std::remove_const_t<Arguments>*>(arguments[Index])...);
}

template <class... Arguments>
void launch(void (*kernel)(Arguments...), bool serial, unsigned grid, unsigned block,
            void** arguments) {
    const auto run = [=](unsigned block_index, unsigned thread) {
        threadIdx.x = thread;
        blockIdx.x = block_index;
        blockDim.x = block;
        gridDim.x = grid;
        call(kernel, arguments, std::index_sequence_for<Arguments...>());
    };
    for (unsigned b = 0; b < grid; ++b) {
        if (serial) {
            for (unsigned thread = 0; thread < block; ++thread) run(b, thread);
            continue;
        }
        for (unsigned first = 0; first < block; first += 32) {
            Warp here;
            std::vector<std::thread> lanes;
            for (int lane = 0; lane < 32; ++lane) {
                lanes.emplace_back([&, lane] {
                    warp = &here;
                    warp_lane = lane;
                    run(b, first + lane);
                    --here.alive;
                });
            }
            for (std::thread& lane : lanes) lane.join();
        }
    }
}
