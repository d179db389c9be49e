// SPDX-License-Identifier: Apache-2.0
// Matrix products on the device against the same products in double on the host.
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/runtime.hpp"
#include "kdlib/tensor/tensor.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;

namespace {

/// Small whole numbers over 8: exact in every scalar type.
std::vector<double> numbers(std::int64_t count, std::uint32_t state) {
  std::vector<double> out(static_cast<std::size_t>(count));
  for (double& x : out) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<double>(static_cast<int>(state >> 24) % 17 - 8) / 8;
  }
  return out;
}

template <class T>
Buffer<T, Cuda> on_device(const std::vector<double>& values) {
  std::vector<T> host(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) host[i] = T(static_cast<float>(values[i]));
  Buffer<T, Cuda> out(static_cast<std::int64_t>(host.size()));
  Memory<Cuda>::from_host(out.data(), host.data(), host.size() * sizeof(T));
  return out;
}

/// Of C in type Out.
template <class T, class Out = T>
double product_error(bool transpose_a, bool transpose_b) {
  const std::int64_t m = 5, n = 7, k = 11, ldc = n + 2;
  const std::int64_t lda = (transpose_a ? m : k) + 1, ldb = (transpose_b ? k : n) + 3;
  const auto a = numbers((transpose_a ? k : m) * lda, 1), b = numbers((transpose_b ? n : k) * ldb, 2);
  auto c = numbers(m * ldc, 3);
  auto da = on_device<T>(a), db = on_device<T>(b);
  auto dc = on_device<Out>(c);
  Kernels<Cuda, T>::gemm(transpose_a, transpose_b, m, n, k, T(0.5f), da.data(), lda, db.data(), ldb, T(2.0f), dc.data(),
                         ldc);
  Kernels<Cpu, double>::gemm(transpose_a, transpose_b, m, n, k, 0.5, a.data(), lda, b.data(), ldb, 2.0, c.data(), ldc);
  std::vector<Out> got(c.size());
  Memory<Cuda>::to_host(got.data(), dc.data(), got.size() * sizeof(Out));
  return kdlib_tests::normalised_square_error(got.data(), c.data(), c.size());
}

}  // namespace

TEST_CASE("the CUDA libraries load and name their versions without a device", "[cuda]") {
  CHECK_THAT(cuda_library_text(), contains("cuBLAS"));
  CHECK(cuda_device_count() >= 0);
}

TEST_CASE("without a device every use is refused with a reason", "[cuda]") {
  if (cuda_device_count() > 0) KDLIB_SKIP("a CUDA device answers here, so its absence cannot be tested");
  REQUIRE_THROWS_AS(Memory<Cuda>::allocate(16), BackendError);
  REQUIRE_THROWS_WITH(cuda_device_text(), contains("no device answers"));
}

TEMPLATE_TEST_CASE("a product on the device equals the host's in all four transpositions", "[cuda]", float, double,
                   bf16, f16) {
  if (cuda_device_count() == 0) KDLIB_SKIP("CUDA products: no device answers");
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true}) {
      CAPTURE(transpose_a, transpose_b);
      CHECK(product_error<TestType>(transpose_a, transpose_b) < kdlib_tests::Tolerance<TestType>::normalised_square);
    }
}

TEST_CASE("a product of bf16 factors that is added up in float rounds nothing", "[cuda]") {
  if (cuda_device_count() == 0) KDLIB_SKIP("CUDA products: no device answers");
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true})  // all numbers have few bits: float holds every sum
      CHECK(product_error<bf16, float>(transpose_a, transpose_b) == 0);
}

TEST_CASE("a product of no terms on the device clears or keeps its result", "[cuda]") {
  if (cuda_device_count() == 0) KDLIB_SKIP("CUDA products: no device answers");
  const auto c = on_device<float>({8, 16, 24, 32, 40, 48});
  const auto x = on_device<float>({8, 8});
  std::vector<float> got(6);
  const auto multiply = [&](float beta) {
    Kernels<Cuda, float>::gemm(false, false, 2, 2, 0, 1.0f, x.data(), 1, x.data(), 2, beta, c.data(), 3);
    Memory<Cuda>::to_host(got.data(), c.data(), got.size() * sizeof(float));
  };
  multiply(1);
  CHECK(got == std::vector<float>{8, 16, 24, 32, 40, 48});
  multiply(0);
  CHECK(got == std::vector<float>{0, 0, 24, 0, 0, 48});
}

TEST_CASE("products are captured in a graph once they ran, and refused before", "[cuda]") {
  if (cuda_device_count() == 0) KDLIB_SKIP("CUDA products: no device answers");
  const auto x = on_device<float>({1, 2, 3, 4});
  const auto y = on_device<float>({0, 0, 0, 0});
  const auto multiply = [&](std::int64_t k) {
    Kernels<Cuda, float>::gemm(false, true, 2, 2, k, 1.0f, x.data(), 2, x.data(), 2, 1.0f, y.data(), 2);
  };
  std::vector<float> got(4);
  const auto read = [&] { Memory<Cuda>::to_host(got.data(), y.data(), got.size() * sizeof(float)); };
  multiply(2);
  detail::CudaGraph graph;
  graph.capture(nullptr, [&] {
    multiply(2);
    CHECK_THROWS_WITH(multiply(1), contains("captured that never ran"));
  });
  graph.launch(), graph.launch();
  read();
  CHECK(got == std::vector<float>{15, 33, 33, 75});
}

TEST_CASE("leading dimensions below the row length are refused", "[cuda]") {
  REQUIRE_THROWS_AS((Kernels<Cuda, float>::gemm(false, false, 2, 2, 2, 1.0f, nullptr, 1, nullptr, 2, 0.0f, nullptr, 2)),
                    ShapeError);
}
