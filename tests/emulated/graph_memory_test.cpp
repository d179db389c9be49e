// SPDX-License-Identifier: Apache-2.0
// What the emulated device finds in graphs: memory that was given back, and memory that is read before it is written.
#include <cmath>
#include <vector>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/emulated/device.hpp"
#include "kdlib/tensor/buffer.hpp"
#include "support/catch.hpp"

using namespace kdlib;

namespace {

using K = Kernels<Cuda, float>;
using Graph = Memory<Cuda>::Graph;
using GraphMemory = Memory<Cuda>::GraphMemory;

float first_of(const Buffer<float, Cuda>& b) {
  float x = 0;
  Memory<Cuda>::to_host(&x, b.data(), sizeof x);
  return x;
}
Buffer<float, Cuda> ones(std::int64_t count) {
  const std::vector<float> x(static_cast<std::size_t>(count), 1);
  Buffer<float, Cuda> out(count);
  Memory<Cuda>::from_host(out.data(), x.data(), x.size() * sizeof(float));
  return out;
}

}  // namespace

TEST_CASE("memory that is given back while a graph uses it is found when the graph is launched", "[cuda]") {
  const Buffer<float, Cuda> y(4);
  Buffer<float, Cuda> x = ones(4);
  Graph graph;
  graph.capture(std::make_shared<GraphMemory>(512), [&] {
    const Buffer<float, Cuda> sum(4);
    K::add(x.data(), x.data(), 4, sum.data());
    Memory<Cuda>::copy(y.data(), sum.data(), 4 * sizeof(float));
  });
  const EmulatedCounts before = emulated_counts();
  graph.launch();
  CHECK(first_of(y) == 2);
  CHECK(emulated_counts().graph_launches == before.graph_launches + 1);
  CHECK(emulated_counts().launches == before.launches + 1);
  x = ones(4);  // other memory
  CHECK_THROWS_WITH(graph.launch(), contains("which was given back; capture it again"));
}

TEST_CASE("what a graph allocates is NaN at every launch, and again when it is given back", "[cuda]") {
  const Buffer<float, Cuda> x = ones(4), y(4), z(4);
  for (const bool writes : {true, false}) {
    Graph graph;
    graph.capture(std::make_shared<GraphMemory>(512), [&] {
      const Buffer<float, Cuda> sum(4);
      if (writes) K::add(x.data(), x.data(), 4, sum.data());
      Memory<Cuda>::copy(y.data(), sum.data(), 4 * sizeof(float));
      K::add(x.data(), x.data(), 4, sum.data());  // too late: the next launch must not find it
    });
    for (int i = 0; i < 2; ++i) {
      graph.launch();
      CHECK(std::isnan(first_of(y)) == !writes);
    }
  }
  Graph late;
  late.capture(std::make_shared<GraphMemory>(512), [&] {
    float* gone = nullptr;
    {
      const Buffer<float, Cuda> sum(4);
      K::add(x.data(), x.data(), 4, sum.data());
      gone = sum.data();
    }
    Memory<Cuda>::copy(z.data(), gone, 4 * sizeof(float));
  });
  late.launch();
  CHECK(std::isnan(first_of(z)));
}

TEST_CASE("a graph of a dry run takes the memory of one that runs, and is not launched behind it", "[cuda]") {
  const auto work = [](Graph& graph) {
    const Buffer<float, Cuda> x(1000), y(1000);
    std::size_t bytes = 0;
    const auto add = [&] {
      const Buffer<float, Cuda> sum(1000), other(300);
      K::add(x.data(), x.data(), 1000, sum.data());
    };
    {
      const Memory<Cuda>::GraphMemoryPlan plan;
      add();
      bytes = plan.bytes();
    }
    graph.capture(std::make_shared<GraphMemory>(bytes), add);
    graph.launch();
  };
  reset_emulated_arena();
  {
    Graph graph;
    work(graph);
  }
  const CountedMemory done = emulated_arena();
  CountedMemory counted;
  Graph graph;
  {
    const Memory<Cuda>::DryRun dry;
    work(graph);
    CHECK(graph.captured());
    counted = dry.counted();
  }
  CHECK(counted.peak == done.peak);
  CHECK(counted.peak == 2 * 4096 + 4096 + 1536);
  CHECK_THROWS_WITH(graph.launch(), contains("of a dry run is launched behind it"));
}
