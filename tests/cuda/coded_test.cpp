// SPDX-License-Identifier: Apache-2.0
// Packed weights of the CUDA backend: decoded values bit by bit, products and gradients against Kernels<Cpu, double>.
#include "cuda/kernel_cases.hpp"
#include "kdlib/quant/coded_matrix.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

std::vector<QuantizeSettings> formats() {
  return {{PackedKind::int4, 16},
          {PackedKind::int4, 32, Int4Rule::affine},
          {PackedKind::int3, 16, Int4Rule::asymmetric},
          {PackedKind::int8, 64},
          {PackedKind::nf4, 64},
          {PackedKind::fp4, 64, Int4Rule::symmetric, true},
          {PackedKind::mxfp4, 32}};
}

/// A weight [rows, columns] in codes on both devices.
template <class T>
struct Coded {
  static constexpr std::int64_t rows = 13, columns = 72;
  CodedData data;
  CodedMatrix<T, Cuda> device;
  CodedMatrix<float, Cpu> single;
  CodedMatrix<double, Cpu> wide;

  explicit Coded(const QuantizeSettings& settings) : Coded(encoded(settings)) {}

 private:
  explicit Coded(CodedData d) : data(std::move(d)), device(data), single(data), wide(data) {}
  static CodedData encoded(const QuantizeSettings& settings) {
    Array<float> w(rows * columns, 3);
    return encode_weights(w.host().data(), rows, columns, settings);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("codes decoded on CUDA have the CPU's bits, and their products its values", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  for (const QuantizeSettings& settings : formats()) {
    CAPTURE(describe(settings));
    const Coded<T> w(settings);
    constexpr std::int64_t rows = Coded<T>::rows, columns = Coded<T>::columns;
    Array<T> out(5 * columns, 1);
    w.device.decode(4, 5, out.device());
    std::vector<float> want(5 * columns);
    w.single.decode(4, 5, want.data());
    const auto got = out.host();
    for (std::size_t i = 0; i < want.size(); ++i) {
      const T rounded = T(want[i]);
      CHECK(std::memcmp(&got[i], &rounded, sizeof(T)) == 0);
    }
    for (const std::int64_t m : {0, 1, 9}) {
      Array<T> x(m * columns, 2), y(m * rows, 3);
      check_repeats([&] { w.device.multiply_few(m, x.device(), T(0.5f), y.device()); }, y);
      w.wide.multiply_few(m, x.wide(), 0.5, y.wide());
      CHECK(y.error() <= kernel_tolerance<T>);
    }
  }
}

TEMPLATE_TEST_CASE("gradients through codes on CUDA equal the CPU's", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using C = accumulate_t<T>;
  for (const QuantizeSettings& settings : {QuantizeSettings{PackedKind::int4, 16},
                                           {PackedKind::int4, 32, Int4Rule::affine},
                                           {PackedKind::int8, 48, Int4Rule::asymmetric}}) {
    CAPTURE(describe(settings));
    const Coded<T> w(settings);
    constexpr std::int64_t columns = Coded<T>::columns, count = 6, begin = 3;
    const bool zeros = !w.data.zero.empty();
    Array<T> g(count * columns, 1);
    Array<C> scale(w.data.groups(), 2), zero(w.data.groups(), 3);
    check_repeats(
        [&] {
          Kernels<Cuda, T>::coded_factor_gradient(w.device.ranges(), begin, count, g.device(), scale.device(),
                                                  zeros ? zero.device() : nullptr);
        },
        scale, zero);
    Kernels<Cpu, double>::coded_factor_gradient(w.wide.ranges(), begin, count, g.wide(), scale.wide(),
                                                zeros ? zero.wide() : nullptr);
    CHECK(scale.error() <= kernel_tolerance<float>);
    CHECK(zero.error() <= kernel_tolerance<float>);
    Kernels<Cuda, T>::coded_clip_gradient(w.device.ranges(), begin, count, g.device());
    Kernels<Cpu, double>::coded_clip_gradient(w.wide.ranges(), begin, count, g.wide());
    CHECK(g.error() == 0);
  }
}

TEMPLATE_TEST_CASE("weights in a file's format are decoded for CUDA as for the CPU", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  constexpr std::int64_t rows = 9, columns = 8, m = 3;
  Array<float> numbers(rows * columns, 1);
  const std::vector<float> host = numbers.host();
  const auto* bytes = reinterpret_cast<const std::byte*>(host.data());
  StoredRanges w;
  w.type = GgufType::f32, w.parts = &bytes, w.part_rows = rows, w.rows = rows, w.columns = columns;
  Array<T> out(4 * columns, 2), x(m * columns, 3), y(m * rows, 4);
  Kernels<Cuda, T>::stored_decode(w, 5, 4, out.device());
  const auto got = out.host();
  for (std::size_t i = 0; i < got.size(); ++i) {
    const T want = T(host[5 * columns + i]);
    CHECK(std::memcmp(&got[i], &want, sizeof(T)) == 0);
  }
  check_repeats([&] { Kernels<Cuda, T>::stored_multiply(w, 0, rows, m, x.device(), 0.5f, y.device(), rows); }, y);
  Kernels<Cpu, double>::stored_multiply(w, 0, rows, m, x.wide(), 0.5, y.wide(), rows);
  CHECK(y.error() <= kernel_tolerance<T>);
}
