// SPDX-License-Identifier: Apache-2.0
// What the emulated device is for: each fault is caught, and the same code without the fault passes.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/each_inl.hpp"
#include "kdlib/backend/cuda/emulated/device.hpp"
#include "kdlib/backend/cuda/runtime.hpp"
#include "kdlib/tensor/buffer.hpp"
#include "support/catch.hpp"

// Arguments are searched for addresses where the compiler can clear padding (GCC).
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
#define KDLIB_TESTS_SEARCH_ARGUMENTS 1
#endif
#endif

using namespace kdlib;
using detail::launch;

namespace {

/// Settings of the device for one test.
class Settings {
 public:
  explicit Settings(EmulatedOrder order = EmulatedOrder::forwards, std::uint64_t seed = 1) {
    emulated_settings().order = order, emulated_settings().seed = seed;
  }
  ~Settings() { emulated_settings() = before_; }
  Settings(const Settings&) = delete;
  Settings& operator=(const Settings&) = delete;

 private:
  EmulatedSettings before_ = emulated_settings();
};

constexpr EmulatedOrder orders[] = {EmulatedOrder::forwards, EmulatedOrder::backwards, EmulatedOrder::shuffled};

/// Adds a vector's neighbours by shared memory; `barriers` says whether every thread's write is waited for.
struct Neighbours {
  static constexpr int threads = 64;
  bool barriers;
  float* x;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const auto tile = block.template shared<float>(0, block.size());
    const std::int64_t i = block.thread(), next = (i + 1) % block.size();
    tile[i] = x[i];
    if (barriers) block.barrier();
    x[i] = tile[i] + tile[next];
  }
};
/// The barrier after the reads: the tile is written again in a second round.
struct TwoRounds {
  static constexpr int threads = 64;
  bool barriers;
  float* x;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const auto tile = block.template shared<float>(0, block.size());
    const std::int64_t i = block.thread(), next = (i + 1) % block.size();
    for (int round = 0; round < 2; ++round) {
      tile[i] = x[i];
      block.barrier();
      x[i] = tile[next];
      if (barriers) block.barrier();
    }
  }
};
struct SomeThreadsWait {
  static constexpr int threads = 64;
  bool all;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    if (all || block.thread() < 40) block.barrier();
    block.shuffle_down(1.0f, 1);
  }
};
struct SharedIndex {
  static constexpr int threads = 32;
  std::int64_t index;
  float* x;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const auto tile = block.template shared<float>(0, 32);
    tile[block.thread()] = 1.0f;
    block.barrier();
    if (block.thread() == 0) x[0] = tile[index];
  }
};
struct Write {
  static constexpr int threads = 32;
  float* x;
  std::int64_t index;
  float value;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    if (block.thread() == 0) x[index] = value;
  }
};
struct Unwritten {
  static constexpr int threads = 32;
  float* x;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    x[block.thread()] = block.template shared<float>(0, 32)[block.thread()];
  }
};
struct Big {
  static constexpr int threads = 32;
  char bytes[40000];

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B&) const {}
};
struct Nothing {
  static constexpr int threads = 1024;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B&) const {}
};

std::vector<float> host(const Buffer<float, Cuda>& b) {
  std::vector<float> out(static_cast<std::size_t>(b.count()));
  Memory<Cuda>::to_host(out.data(), b.data(), out.size() * sizeof(float));
  return out;
}
Buffer<float, Cuda> numbers(std::int64_t n) {
  std::vector<float> x;
  for (std::int64_t i = 0; i < n; ++i) x.push_back(static_cast<float>(i));
  Buffer<float, Cuda> out(n);
  Memory<Cuda>::from_host(out.data(), x.data(), x.size() * sizeof(float));
  return out;
}

/// What a child that runs `body` writes to standard error before it ends; "no fault" where it ends well.
template <class F>
std::string fault_of(F&& body) {
  int pipes[2];
  REQUIRE(::pipe(pipes) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipes[1], 2);
    body();
    ::_exit(0);
  }
  ::close(pipes[1]);
  std::string text;
  char part[256];
  for (ssize_t n; (n = ::read(pipes[0], part, sizeof(part))) > 0;) text.append(part, static_cast<std::size_t>(n));
  ::close(pipes[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "no fault" : text;
}

}  // namespace

TEST_CASE("a missing barrier before a read is found in every order", "[cuda]") {
  for (const EmulatedOrder order : orders) {
    const Settings settings(order, 7);
    const auto x = numbers(64);
    launch(Neighbours{true, x.data()}, {.shared_bytes = 256});
    CHECK(host(x)[63] == 63);
    launch(Neighbours{false, x.data()}, {.shared_bytes = 256});
    CHECK_THROWS_WITH(cuda_synchronize(), contains("a barrier is missing") && contains("Neighbours"));
  }
}

TEST_CASE("a missing barrier between a read and the next write is found in every order", "[cuda]") {
  for (const EmulatedOrder order : orders) {
    const Settings settings(order, 3);
    const auto x = numbers(64);
    launch(TwoRounds{true, x.data()}, {.shared_bytes = 256});
    CHECK(host(x)[0] == 2);
    launch(TwoRounds{false, x.data()}, {.shared_bytes = 256});
    CHECK_THROWS_WITH(cuda_synchronize(), contains("a barrier is missing"));
  }
}

TEST_CASE("a barrier that not every thread reaches is refused", "[cuda]") {
  launch(SomeThreadsWait{true}, {});
  CHECK_NOTHROW(cuda_synchronize());
  launch(SomeThreadsWait{false}, {});
  CHECK_THROWS_WITH(cuda_synchronize(), contains("wait at different places"));
  launch(SomeThreadsWait{true}, {.threads = 48});
  CHECK_THROWS_WITH(cuda_synchronize(), contains("whole warps"));
}

TEST_CASE("shared memory outside of its array is refused, and unwritten shared memory is NaN", "[cuda]") {
  const auto x = numbers(32);
  launch(SharedIndex{31, x.data()}, {.shared_bytes = 128});
  CHECK(host(x)[0] == 1);
  launch(SharedIndex{32, x.data()}, {.shared_bytes = 128});
  CHECK_THROWS_WITH(cuda_synchronize(), contains("elements 32 to 33 of a shared array of 32"));
  launch(SharedIndex{0, x.data()}, {.shared_bytes = 64});
  CHECK_THROWS_WITH(cuda_synchronize(), contains("the launch asked for 64"));
  launch(Unwritten{x.data()}, {.shared_bytes = 128});
  CHECK(std::isnan(host(x)[5]));
}

TEST_CASE("device memory outside of an allocation is refused, behind it and before it", "[cuda]") {
  const auto x = numbers(1024), y = numbers(3);
  launch(Write{x.data(), 1023, 5}, {});
  CHECK(host(x)[1023] == 5);
  launch(Write{x.data(), 1024, 5}, {});
  CHECK_THROWS_WITH(cuda_synchronize(), contains("a kernel touches byte 4096") && contains("ends before it"));
  launch(Write{y.data(), 2, 5}, {});
  CHECK_NOTHROW(cuda_synchronize());
  launch(Write{y.data(), 3, 5}, {});  // the 4 bytes up to the next multiple of 16
  CHECK_THROWS_WITH(cuda_synchronize(), contains("behind allocation"));
  const auto z = numbers(3);
  launch(Write{z.data(), -1, 5}, {});
  CHECK_THROWS_WITH(cuda_synchronize(), contains("before allocation"));
}

TEST_CASE("fresh memory is NaN", "[cuda]") {
  const Buffer<float, Cuda> x(5);
  CHECK(std::isnan(host(x)[4]));
}

TEST_CASE("memory that was given back is not used", "[cuda]") {
  auto x = numbers(16);
  float* const p = x.data();
  launch(Write{p, 0, 5}, {});  // queued before it is given back: right
  x = Buffer<float, Cuda>();
  CHECK_NOTHROW(cuda_synchronize());
#if defined(KDLIB_TESTS_SEARCH_ARGUMENTS)
  CHECK_THROWS_WITH(launch(Write{p, 0, 5}, {}), contains("which was given back"));
#endif
  CHECK_THROWS_WITH(Memory<Cuda>::fill_zero(p, 4), contains("was given back"));
}

TEST_CASE("memory that is given back while another stream needs it is found", "[cuda]") {
  const Settings settings;  // forwards: a stream runs as late as it can
  for (const bool waits : {true, false}) {
    auto x = numbers(16);
    launch(Write{x.data(), 0, 5}, {}, detail::copy_stream());
    detail::CudaEvent copied;
    copied.record(detail::copy_stream());
    if (waits) copied.wait(detail::compute_stream());
    x = Buffer<float, Cuda>();
    detail::synchronize_stream(detail::compute_stream());
    if (waits) CHECK_NOTHROW(cuda_synchronize());
    else CHECK_THROWS_WITH(cuda_synchronize(), contains("which was given back"));
  }
}

TEST_CASE("host code that touches device memory ends with the allocation's name", "[cuda]") {
  const auto x = numbers(16);
  CHECK(fault_of([&] { host(x); }) == "no fault");
  CHECK_THAT(fault_of([&] { x.data()[3] = 1; }),
             contains("the host touches byte 12 of allocation") && contains("is device memory"));
}

TEST_CASE("an address of the host is refused as an argument, and as the device's side of a copy", "[cuda]") {
  std::vector<float> heap(16);
  float stack[16] = {};
#if defined(KDLIB_TESTS_SEARCH_ARGUMENTS)
  CHECK_THROWS_WITH(launch(Write{heap.data(), 0, 5}, {}), contains("is an address of the host"));
  CHECK_THROWS_WITH(launch(Write{stack, 0, 5}, {}), contains("is an address of the host"));
#endif
  const auto x = numbers(16);
  CHECK_NOTHROW(launch(Write{x.data(), 0, 5}, {}));
  CHECK_THROWS_WITH(Memory<Cuda>::to_host(heap.data(), stack, 4), contains("not of the device"));
  CHECK_THROWS_WITH(Memory<Cuda>::to_host(x.data(), x.data(), 4), contains("the target is device memory"));
  CHECK_THROWS_WITH(Memory<Cuda>::to_host(heap.data(), x.data() + 15, 8), contains("8 bytes from byte 60"));
}

TEST_CASE("a copy that is not waited for leaves NaN, and a missing event the older numbers", "[cuda]") {
  const Settings settings;  // forwards: a stream runs as late as it can
  const auto x = numbers(4);
  const detail::PinnedMemory pinned(16);
  const auto* out = static_cast<const float*>(pinned.data());
  cuda_synchronize();
  detail::copy_to_host(pinned.data(), x.data(), 16, detail::copy_stream());
  CHECK(std::isnan(out[1]));
  detail::synchronize_stream(detail::copy_stream());
  CHECK(out[1] == 1);
  for (const bool event : {true, false}) {
    const Buffer<float, Cuda> fresh(4);
    launch(Write{fresh.data(), 1, 8}, {});
    detail::CudaEvent written;
    written.record(detail::compute_stream());
    if (event) written.wait(detail::copy_stream());
    detail::copy_to_host(pinned.data(), fresh.data(), 16, detail::copy_stream());
    detail::synchronize_stream(detail::copy_stream());
    if (event) CHECK(out[1] == 8);
    else CHECK(std::isnan(out[1]));
    cuda_synchronize();
  }
}

TEST_CASE("pinned memory that is written before its copy has run gives the later numbers", "[cuda]") {
  const Buffer<float, Cuda> x(4);
  const detail::PinnedMemory pinned(16);
  auto* in = static_cast<float*>(pinned.data());
  for (const bool waits : {true, false}) {
    in[0] = 1;
    detail::copy_to_device(x.data(), in, 16, detail::compute_stream());
    if (waits) detail::synchronize_stream(detail::compute_stream());
    in[0] = 2;
    CHECK(host(x)[0] == (waits ? 1 : 2));
  }
  std::vector<float> pageable(4);
  CHECK_THROWS_WITH(detail::copy_to_device(x.data(), pageable.data(), 16, nullptr), contains("not pinned"));
}

TEST_CASE("under NoSync every call that waits is refused, and queued work is not", "[cuda]") {
  const auto x = numbers(4);
  float out = 0;
  cuda_synchronize();
  {
    const detail::NoSync guard;
    CHECK_NOTHROW(launch(Write{x.data(), 0, 5}, {}));
    CHECK_THROWS_WITH(cuda_synchronize(), contains("cuda_synchronize waits for the device inside a NoSync"));
    CHECK_THROWS_WITH(Memory<Cuda>::to_host(&out, x.data(), 4), contains("NoSync"));
    // What is copied is taken along and not waited for, until 64 MiB are on their way.
    const std::vector<float> large(20 << 20);
    const Buffer<float, Cuda> target(20 << 20);
    CHECK_NOTHROW(Memory<Cuda>::from_host(target.data(), large.data(), 60 << 20));
    CHECK_THROWS_WITH(Memory<Cuda>::from_host(target.data(), large.data(), 20 << 20),
                      contains("behind 64 MiB that are on their way waits") && contains("NoSync"));
    {
      const int depth = std::exchange(detail::NoSync::depth(), 0);
      cuda_synchronize();
      detail::NoSync::depth() = depth;
    }
    CHECK_NOTHROW(Memory<Cuda>::from_host(target.data(), &out, 4));
    CHECK_THROWS_WITH(detail::synchronize_stream(nullptr), contains("NoSync"));
    CHECK_THROWS_WITH(detail::CudaEvent().synchronize(), contains("NoSync"));
  }
  CHECK(host(x)[0] == 5);
}

TEST_CASE("a captured graph refuses allocation, waiting and new products, and runs as often as it is launched",
          "[cuda]") {
  using Gemm = Kernels<Cuda, float>;
  auto x = numbers(4);
  const auto y = numbers(4);
  const auto multiply = [&](std::int64_t k) {
    Gemm::gemm(false, false, 2, 2, k, 1, x.data(), 2, x.data(), 2, 0, y.data(), 2);
  };
  multiply(2);
  CHECK(host(y) == std::vector<float>{2, 3, 6, 11});
  detail::CudaGraph graph;
  graph.capture(nullptr, [&] {
    launch(Write{x.data(), 0, 1}, {});
    multiply(2);
    CHECK_THROWS_WITH(multiply(1), contains("captured that never ran"));
    CHECK_THROWS_WITH((Buffer<float, Cuda>(4)), contains("while a graph is captured"));
    CHECK_THROWS_WITH(cuda_synchronize(), contains("while a graph is captured"));
    CHECK_THROWS_WITH(host(x), contains("while a graph is captured"));
  });
  CHECK(host(y)[0] == 2);  // nothing ran
  for (int i = 0; i < 2; ++i) {
    graph.launch();
    CHECK(host(y) == std::vector<float>{3, 4, 8, 11});
    launch(Write{x.data(), 0, 0}, {});
  }
  x = Buffer<float, Cuda>();
  CHECK_THROWS_WITH(graph.launch(), contains("which was given back; capture it again"));
}

TEST_CASE("a launch is refused where a device refuses it", "[cuda]") {
  const Settings settings;
  CHECK_NOTHROW(launch(Nothing{}, {.shared_bytes = 227 * 1024}));
  CHECK_THROWS_WITH(launch(Nothing{}, {.shared_bytes = 228 * 1024}), contains("of shared memory; capability 9.0"));
  emulated_settings().major = 8;
  CHECK_THROWS_WITH(launch(Nothing{}, {.shared_bytes = 164 * 1024}), contains("capability 8.0 has 166912"));
  CHECK_THROWS_WITH(launch(Nothing{}, {.threads = 1056}), contains("it takes 1 to 1024"));
  CHECK_THROWS_WITH(launch(Nothing{}, {.blocks_y = 65536}), contains("a grid of 1 x 65536"));
  CHECK_THROWS_WITH(launch(Nothing{}, {.blocks = std::int64_t{1} << 31}), contains("a grid of 2147483648"));
  CHECK_THROWS_WITH(launch(Big{}, {}), contains("a kernel takes 32764"));
  cuda_synchronize();
  emulated_settings().memory_bytes = memory_use<Cuda>().now.load() + 100;
  CHECK_THROWS_WITH((Buffer<char, Cuda>(101)), contains("cannot allocate 101 bytes"));
  CHECK_NOTHROW(Buffer<char, Cuda>(100));
  emulated_settings().devices = 0;
  CHECK_THROWS_WITH((Buffer<char, Cuda>(1)), contains("no device answers"));
}
