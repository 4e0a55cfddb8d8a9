// CUDA on a CPU, as far as the kernels of this package need it: enough for g++ to
// compile their very sources, and for a test to execute them. For tests only.
//
// A warp is 32 contexts of one thread, which take turns: each runs to its next shuffle,
// leaves its value there, and goes on when all have. Warps run one after the other, so
// that the order of updates is known. A launch that shuffles nothing (one thread a pair)
// is a loop.

#include <ucontext.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(address, size)
#endif

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
    const T old = *address;
    *address = old + value;
    return old;
}
inline float4 atomicAdd(float4* address, float4 value) {
    if (reinterpret_cast<std::size_t>(address) % 16 != 0) {
        std::fprintf(stderr, "atomicAdd: address not aligned to 16 bytes\n");
        std::abort();
    }
    const float4 old = *address;
    atomicAdd(&address->x, value.x);
    atomicAdd(&address->y, value.y);
    atomicAdd(&address->z, value.z);
    atomicAdd(&address->w, value.w);
    return old;
}

inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
[[noreturn]] inline void __trap() { std::abort(); }

constexpr int LANES = 32;
constexpr std::size_t STACK = 256 * 1024;

// A context, and what AddressSanitizer wants to know of its stack.
struct Fiber {
    ucontext_t context;
    const void* stack = nullptr;
    std::size_t size = 0;
    void* fake_stack = nullptr;
};

struct Warp {
    std::function<void(int)> body;
    Fiber home, lanes[LANES];
    char* stacks = nullptr;  // those of a launch's warps are one after the other in the same place
    bool ended[LANES] = {};
    // Two sets, in turn: a lane may come to its next shuffle before others have read this one.
    unsigned long long values[2][LANES];
    int lines[2][LANES];
    int turn[LANES] = {};
    int lane = 0;

    // Leave one context for another, until somebody comes back.
    static void go(Fiber& from, Fiber& to, bool ends) {
#ifdef __SANITIZE_ADDRESS__
        __sanitizer_start_switch_fiber(ends ? nullptr : &from.fake_stack, to.stack, to.size);
#endif
        swapcontext(&from.context, &to.context);
#ifdef __SANITIZE_ADDRESS__
        __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
    }

    void run(unsigned first_thread);
};
inline thread_local Warp* warp = nullptr;

inline void start_lane() {
    Warp& here = *warp;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &here.home.stack, &here.home.size);
#endif
    here.body(here.lane);
    here.ended[here.lane] = true;
    Warp::go(here.lanes[here.lane], here.home, true);
}

inline void Warp::run(unsigned first_thread) {
    warp = this;
    ASAN_UNPOISON_MEMORY_REGION(stacks, LANES * STACK);  // of frames that were left for good
    for (int n = 0; n < LANES; ++n) {
        Fiber& fiber = lanes[n];
        getcontext(&fiber.context);
        fiber.stack = fiber.context.uc_stack.ss_sp = stacks + n * STACK;
        fiber.size = fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, start_lane, 0);
    }
    for (int running = LANES; running > 0;) {
        if (running != LANES) {
            std::fprintf(stderr, "%d lanes wait for a shuffle that the others left out\n", running);
            std::abort();
        }
        running = 0;
        for (lane = 0; lane < LANES; ++lane) {
            threadIdx.x = first_thread + lane;
            go(home, lanes[lane], false);
            running += !ended[lane];
        }
    }
    warp = nullptr;
}

// The value of another lane. All must come, and from the same line of the source.
template <class T>
T exchange(T value, int source, int line) {
    static_assert(sizeof(T) <= sizeof(unsigned long long));
    if (warp == nullptr) std::abort();
    Warp& here = *warp;
    const int lane = here.lane, turn = here.turn[lane]++ % 2;
    std::memcpy(&here.values[turn][lane], &value, sizeof(T));
    here.lines[turn][lane] = line;
    Warp::go(here.lanes[lane], here.home, false);
    if (here.lines[turn][source] != line) {
        std::fprintf(stderr, "lines %d and %d: a warp apart\n", line, here.lines[turn][source]);
        std::abort();
    }
    std::memcpy(&value, &here.values[turn][source], sizeof(T));
    return value;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width, int line = __builtin_LINE()) {
    if (mask != 0xFFFFFFFFu) std::abort();
    return exchange(value, (warp->lane & ~(width - 1)) | (source & (width - 1)), line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int offset, int line = __builtin_LINE()) {
    if (mask != 0xFFFFFFFFu) std::abort();
    return exchange(value, warp->lane ^ offset, line);
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, int line = __builtin_LINE()) {
    if (mask != 0xFFFFFFFFu) std::abort();
    unsigned alike = 0;
    for (int lane = 0; lane < LANES; ++lane) {
        if (exchange(value, lane, line) == value) alike |= 1u << lane;
    }
    return alike;
}
inline void __syncwarp(int line = __builtin_LINE()) { exchange(0, 0, line); }

// Run a kernel as cuLaunchKernel would: arguments are pointers to values.
template <class... Arguments, std::size_t... Index>
void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<Index...>) {
    kernel(*static_cast<std::remove_const_t<Arguments>*>(arguments[Index])...);
}

template <class... Arguments>
void launch(void (*kernel)(Arguments...), bool serial, unsigned grid, unsigned block,
            void** arguments) {
    const auto run = [=] { call(kernel, arguments, std::index_sequence_for<Arguments...>()); };
    const std::unique_ptr<char[]> stacks(serial ? nullptr : new char[LANES * STACK]);
    blockDim.x = block;
    gridDim.x = grid;
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x) {
        if (serial) {
            for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x) run();
            continue;
        }
        for (unsigned first = 0; first < block; first += LANES) {
            Warp here;
            here.stacks = stacks.get();
            here.body = [&](int) { run(); };
            here.run(first);
        }
    }
}
