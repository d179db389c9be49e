// SPDX-License-Identifier: Apache-2.0
// Graphs of the CUDA backend: what is recorded, where its memory lies, and what is refused meanwhile.
#include <algorithm>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "cuda/kernel_cases.hpp"
#include "kdlib/backend/cuda.hpp"
#include "kdlib/tensor/buffer.hpp"
#include "kdlib/tensor/graph_use.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

using K = Kernels<Cuda, float>;
using Graph = Memory<Cuda>::Graph;
using GraphMemory = Memory<Cuda>::GraphMemory;
using Plan = Memory<Cuda>::GraphMemoryPlan;
static_assert(CapturesGraphs<Cuda>);
static_assert(!CapturesGraphs<Cpu>);

constexpr std::int64_t n = 300;

std::vector<float> host(const Buffer<float, Cuda>& b) {
  std::vector<float> out(static_cast<std::size_t>(b.count()));
  Memory<Cuda>::to_host(out.data(), b.data(), out.size() * sizeof(float));
  return out;
}
void set(const Buffer<float, Cuda>& b, float first) {
  std::vector<float> x(static_cast<std::size_t>(b.count()));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = first + static_cast<float>(i % 7) / 3;
  Memory<Cuda>::from_host(b.data(), x.data(), x.size() * sizeof(float));
}
bool same_bytes(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// y = silu(x) * x + x, and x = x + y: what is allocated comes and goes in several sizes.
void work(const Buffer<float, Cuda>& x, const Buffer<float, Cuda>& y) {
  std::optional<Buffer<float, Cuda>> first(n);
  K::swiglu(x.data(), x.data(), n, first->data());
  const Buffer<float, Cuda> second(2 * n);
  K::add(first->data(), x.data(), n, second.data() + n);
  first.reset();
  const Buffer<float, Cuda> third(n);  // where the first one was
  K::scale(n, 1, second.data() + n);
  K::add(second.data() + n, x.data(), n, third.data());
  Memory<Cuda>::copy(y.data(), second.data() + n, n * sizeof(float));
  Memory<Cuda>::copy(x.data(), third.data(), n * sizeof(float));
}

std::size_t planned(const Buffer<float, Cuda>& x, const Buffer<float, Cuda>& y) {
  const Plan plan;
  work(x, y);
  return plan.bytes();
}

}  // namespace

TEST_CASE("a launched graph gives the bytes of the same work without it, as often as it is launched", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  const Buffer<float, Cuda> x(n), y(n);
  std::vector<std::vector<float>> expected;
  set(x, -1);
  for (int i = 0; i < 3; ++i) {
    work(x, y);
    expected.push_back(host(y));
  }
  const std::size_t bytes = planned(x, y);
  CHECK(bytes == (3 + 5) * 512);  // n floats in 3 steps, 2 n in 5; the third lies where the first did
  Graph graph;
  CHECK_FALSE(graph.captured());
  set(x, -1);
  const std::vector<float> before = host(x);
  graph.capture(std::make_shared<GraphMemory>(bytes), [&] { work(x, y); });
  CHECK(graph.captured());
  CHECK(same_bytes(host(x), before));  // nothing ran
  for (int i = 0; i < 3; ++i) {
    graph.launch();
    CHECK(same_bytes(host(y), expected[static_cast<std::size_t>(i)]));
  }
}

TEST_CASE("graphs share memory, and keep it as long as they live", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  const Buffer<float, Cuda> x(n), y(n), u(n), v(n);
  set(x, -1), set(u, 2);
  work(x, y), work(u, v);
  const std::vector<float> first = host(y), second = host(v);
  const std::int64_t used = memory_use<Cuda>().now.load();
  {
    auto memory = std::make_shared<GraphMemory>(planned(x, y));
    Graph a, b;
    a.capture(memory, [&] { work(x, y); });
    b.capture(memory, [&] { work(u, v); });
    memory.reset();
    CHECK(memory_use<Cuda>().now.load() > used);
    for (int i = 0; i < 2; ++i) {
      set(x, -1), set(u, 2);
      a.launch(), b.launch();
      CHECK(same_bytes(host(y), first));
      CHECK(same_bytes(host(v), second));
    }
  }
  CHECK(memory_use<Cuda>().now.load() == used);
}

TEST_CASE("a capture refuses memory beyond its own, waits, blocking copies and products that never ran", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  const Buffer<float, Cuda> x(n), y(n);
  set(x, 1);
  const std::size_t bytes = planned(x, y);
  std::vector<float> large(3 << 20);
  const Buffer<float, Cuda> target(3 << 20);
  cuda_synchronize();
  const auto refusal = [&](std::size_t memory, auto&& f) {
    Graph graph;
    std::string text;
    try {
      graph.capture(memory == 0 ? nullptr : std::make_shared<GraphMemory>(memory), f);
    } catch (const BackendError& e) {
      text = e.what();
    }
    CHECK_FALSE(graph.captured());
    CHECK_THROWS_WITH(graph.launch(), contains("was not captured"));
    cuda_synchronize();  // the device works on
    return text;
  };
  CHECK_THAT(refusal(0, [&] { work(x, y); }), contains("captured that has no memory of its own"));
  CHECK_THAT(refusal(bytes - 512, [&] { work(x, y); }), contains("does not fit into the 3584 bytes of its memory"));
  CHECK_THAT(refusal(bytes, [&] { cuda_synchronize(); }), contains("it waits for the device"));
  CHECK_THAT(refusal(bytes, [&] { host(x); }), contains("Memory<Cuda>::to_host while a graph is captured"));
  CHECK_THAT(refusal(bytes, [&] { set(x, 1); }), contains("Memory<Cuda>::from_host while a graph is captured"));
  CHECK_THAT(refusal(bytes, [&] { Memory<Cuda>::from_host(target.data(), large.data(), 12 << 20); }),
             contains("Memory<Cuda>::from_host while a graph is captured"));
  CHECK_THAT(refusal(bytes, [&] { K::gemm(false, false, 7, 11, 3, 1, x.data(), 3, x.data(), 11, 0, y.data(), 11); }),
             contains("captured that never ran"));
  CHECK_THAT(refusal(bytes, [&] { Graph().capture(nullptr, [] {}); }), contains("captures a graph already"));
  Buffer<float, Cuda> kept;
  CHECK_THAT(refusal(bytes, [&] { kept = Buffer<float, Cuda>(5); }), contains("1 block of memory that were allocated"));
  kept = Buffer<float, Cuda>();  // its memory is given back now
  set(x, 1);
  work(x, y);
  CHECK(host(y)[0] > 1);
}

TEST_CASE("what another thread queues while a graph is captured runs once and is not recorded", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  const Buffer<float, Cuda> x(n), y(n), u(n), v(n);
  set(x, -1), set(u, 2);
  work(x, y), work(u, v);
  const std::vector<float> first = host(y), second = host(v);
  const std::size_t bytes = planned(x, y);
  set(x, -1), set(u, 2);
  Graph graph;
  graph.capture(std::make_shared<GraphMemory>(bytes), [&] {
    work(x, y);
    std::thread([&] {
      work(u, v);  // with memory of its own
      CHECK(same_bytes(host(v), second));
    }).join();
  });
  const std::vector<float> after = host(u);
  graph.launch();
  CHECK(same_bytes(host(y), first));
  CHECK(same_bytes(host(u), after));
}
