// SPDX-License-Identifier: Apache-2.0
// Elementwise and summing kernels of the CUDA backend against Kernels<Cpu, double> on the same rounded inputs.
#include "cuda/kernel_cases.hpp"

using namespace kdlib;
using namespace kdlib_tests;

static_assert(Backend<Cpu, float> && Backend<Cpu, double>, "the CPU has every kernel");
static_assert(HasMatmul<Cuda, float> && HasElementwise<Cuda, float> && HasAttention<Cuda, float> &&
              HasExperts<Cuda, float> && Backend<Cuda, float>);
static_assert(HasMatmul<Cuda, bf16> && HasElementwise<Cuda, bf16> && HasAttention<Cuda, bf16> &&
              HasExperts<Cuda, bf16> && Backend<Cuda, bf16> && HasMixedMatmul<Cuda, bf16>);

namespace {
using Reference = Kernels<Cpu, double>;

// Empty, below one pack, odd, whole packs, several blocks.
constexpr std::int64_t counts[] = {0, 1, 7, 64, 1031};
}  // namespace

TEMPLATE_TEST_CASE("add, axpy, scale, swiglu and geglu on CUDA equal the CPU's", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using K = Kernels<Cuda, T>;
  for (const std::int64_t n : counts) {
    CAPTURE(n);
    Array<T> a(n, 1), b(n, 2), sum(n, 3), gate(n, 4, 3), product(n, 5);
    check_repeats([&] { K::add(a.device(), b.device(), n, sum.device()); }, sum);
    Reference::add(a.wide(), b.wide(), n, sum.wide());
    CHECK(sum.error() <= kernel_tolerance<T>);
    check_repeats([&] { K::swiglu(gate.device(), b.device(), n, product.device()); }, product);
    Reference::swiglu(gate.wide(), b.wide(), n, product.wide());
    CHECK(product.error() <= kernel_tolerance<T>);
    check_repeats([&] { K::geglu(gate.device(), b.device(), n, product.device()); }, product);
    Reference::geglu(gate.wide(), b.wide(), n, product.wide());
    CHECK(product.error() <= kernel_tolerance<T>);
    check_repeats([&] { K::axpy(n, 0.25f, a.device(), b.device()); }, b);
    Reference::axpy(n, 0.25, a.wide(), b.wide());
    CHECK(b.error() <= kernel_tolerance<T>);
    check_repeats([&] { K::fill_normal(n, 0.02, 7, 3, sum.device()); }, sum);
    Reference::fill_normal(n, 0.02, 7, 3, sum.wide());
    CHECK(sum.error() <= kernel_tolerance<T>);
    check_repeats([&] { K::scale(n, -1.5f, a.device()); }, a);
    Reference::scale(n, -1.5, a.wide());
    CHECK(a.error() <= kernel_tolerance<T>);
  }
}

TEMPLATE_TEST_CASE("swiglu's and geglu's gradients on CUDA equal the CPU's, also over the memory of their gradient",
                   "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using K = Kernels<Cuda, T>;
  for (const auto& [on_device, on_host] : {std::pair{&K::swiglu_backward, &Reference::swiglu_backward},
                                           std::pair{&K::geglu_backward, &Reference::geglu_backward}})
    for (const std::int64_t n : counts) {
      Array<T> gate(n, 1, 3), up(n, 2), gradient(n, 3), dgate(n, 4), dup(n, 5);
      const auto run = [&, f = on_device](T* to) {
        f(gate.device(), up.device(), gradient.device(), n, to, dup.device());
      };
      check_repeats([&] { run(dgate.device()); }, dgate, dup);
      on_host(gate.wide(), up.wide(), gradient.wide(), n, dgate.wide(), dup.wide());
      CHECK(dgate.error() <= kernel_tolerance<T>);
      CHECK(dup.error() <= kernel_tolerance<T>);
      run(gradient.device());
      CHECK(gradient.host().size() == dgate.host().size());
      for (std::int64_t i = 0; i < n; i += 13) CHECK(gradient.at(i) == dgate.at(i));
    }
}

TEST_CASE("widening on CUDA is exact and narrowing rounds as the host does, NaN and infinities included", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  using K = Kernels<Cuda, bf16>;
  for (const std::int64_t n : counts)
    for (const std::int64_t at : {0, 1}) {  // from the beginning of a pack, and from inside one
      if (n <= at) continue;
      CAPTURE(n, at);
      Array<float> wide(n, 1), back(n, 2);
      Array<bf16> narrow(n, 3);
      wide.set(n - 1, std::numeric_limits<double>::quiet_NaN());
      if (n > 7) wide.set(3, std::numeric_limits<double>::infinity());
      K::narrow(n - at, wide.device() + at, narrow.device() + at);
      K::widen(n - at, narrow.device() + at, back.device() + at);
      const std::vector<float> from = wide.host(), to = back.host();
      const std::vector<bf16> rounded = narrow.host();
      for (std::int64_t i = at; i < n; ++i) {
        const auto k = static_cast<std::size_t>(i);
        CHECK(rounded[k].bits == bf16(from[k]).bits);
        CHECK(bf16(to[k]).bits == rounded[k].bits);
      }
    }
}

TEMPLATE_TEST_CASE("arrays that begin between packs are added one by one", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  constexpr std::int64_t n = 37;
  Array<T> a(n + 1, 1), b(n + 1, 2), y(n + 1, 3);
  Kernels<Cuda, T>::add(a.device() + 1, b.device() + 1, n, y.device() + 1);
  Reference::add(a.wide() + 1, b.wide() + 1, n, y.wide() + 1);
  CHECK(y.error() <= kernel_tolerance<T>);  // the first element keeps its number
}

TEMPLATE_TEST_CASE("embedding and its gradient on CUDA equal the CPU's, ids that repeat included", "[cuda]", float,
                   bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  for (const std::int64_t width : {5, 16, 264}) {
    CAPTURE(width);
    constexpr std::int64_t rows = 11;
    std::vector<std::int32_t> list;
    for (std::int32_t i = 0; i < 300; ++i) list.push_back(i * i % 7 + (i == 250 ? 4 : 0));
    for (const std::int64_t n : {std::int64_t{0}, std::int64_t{1}, std::int64_t{300}}) {
      const Indices<std::int32_t> ids(std::vector<std::int32_t>(list.begin(), list.begin() + n));
      Array<T> table(rows * width, 1), out(n * width, 2), gradient(n * width, 3);
      Array<accumulate_t<T>> sums(rows * width, 4);
      check_repeats([&] { Kernels<Cuda, T>::embedding(ids.device(), n, width, table.device(), out.device()); }, out);
      Reference::embedding(ids.host(), n, width, table.wide(), out.wide());
      CHECK((n == 0 || out.error() == 0));
      check_repeats(
          [&] { Kernels<Cuda, T>::embedding_backward(ids.device(), n, width, gradient.device(), sums.device()); },
          sums);
      Reference::embedding_backward(ids.host(), n, width, gradient.wide(), sums.wide());
      CHECK(sums.error() <= kernel_tolerance<float>);
    }
  }
}

TEMPLATE_TEST_CASE("rms_norm and its gradients on CUDA equal the CPU's, narrow and wide rows", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using C = accumulate_t<T>;
  for (const std::int64_t width : {3, 33, 256, 1000})
    for (const std::int64_t rows : {0, 1, 37}) {
      CAPTURE(width, rows);
      Array<T> x(rows * width, 1), weight(width, 2, 0.3, 1), y(rows * width, 3), g(rows * width, 4),
          dx(rows * width, 5);
      Array<C> inverse(rows, 6), dw(width, 7);
      check_repeats(
          [&] {
            Kernels<Cuda, T>::rms_norm(x.device(), weight.device(), rows, width, 1e-6, y.device(), inverse.device());
          },
          y, inverse);
      Reference::rms_norm(x.wide(), weight.wide(), rows, width, 1e-6, y.wide(), inverse.wide());
      CHECK(y.error() <= kernel_tolerance<T>);
      CHECK(inverse.error() <= kernel_tolerance<float>);
      inverse.adopt();
      for (const bool accumulate : {false, true}) {
        check_repeats(
            [&] {
              Kernels<Cuda, T>::rms_norm_backward(x.device(), weight.device(), inverse.device(), g.device(), rows,
                                                  width, dx.device(), accumulate, dw.device());
            },
            dx, dw);
        Array<T> want(rows * width, 5);
        Array<C> want_weight(width, 7);
        Reference::rms_norm_backward(x.wide(), weight.wide(), inverse.wide(), g.wide(), rows, width, want.wide(),
                                     accumulate, want_weight.wide());
        const auto got = dx.host();
        const auto got_weight = dw.host();
        CHECK(std::sqrt(normalised_square_error(got.data(), want.wide(), got.size())) <= 2 * kernel_tolerance<T>);
        CHECK(std::sqrt(normalised_square_error(got_weight.data(), want_weight.wide(), got_weight.size())) <=
              kernel_tolerance<float>);
      }
    }
}

TEMPLATE_TEST_CASE("rope on CUDA equals the CPU's and its inverse undoes it", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  constexpr std::int64_t rows = 9, heads = 3, d = 10, most = 20;
  std::vector<std::int32_t> at;
  for (std::int32_t i = 0; i < rows; ++i) at.push_back(i * 5 % 17);
  const Indices<std::int32_t> positions(at);
  std::vector<double> c, s;
  for (int p = 0; p < most; ++p)
    for (int i = 0; i < d / 2; ++i) {
      const double angle = p * std::pow(100.0, -2.0 * i / d);
      c.push_back(std::cos(angle)), s.push_back(std::sin(angle));
    }
  Array<accumulate_t<T>> cosine(c), sine(s);
  Array<T> x(rows * heads * d, 1), same(rows * heads * d, 1);
  const auto rotate = [&](bool inverse) {
    Kernels<Cuda, T>::rope(x.device(), positions.device(), rows, heads, d, cosine.device(), sine.device(), inverse);
  };
  check_repeats([&] { rotate(false); }, x);
  Reference::rope(x.wide(), positions.host(), rows, heads, d, cosine.wide(), sine.wide(), false);
  CHECK(x.error() <= kernel_tolerance<T>);
  rotate(true);
  const auto back = x.host();
  CHECK(std::sqrt(normalised_square_error(back.data(), same.wide(), back.size())) <= 2 * kernel_tolerance<T>);
}

TEMPLATE_TEST_CASE("rows with a bias, a factor or a gate, and sums of columns, on CUDA equal the CPU's", "[cuda]",
                   float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  using K = Kernels<Cuda, T>;
  for (const std::int64_t width : {1, 24, 301})
    for (const std::int64_t rows : {0, 1, 70}) {
      CAPTURE(width, rows);
      Array<T> bias(width, 1), y(rows * width, 2), factors(rows, 3), x(rows * width, 4), g(rows * width, 5),
          dgate(rows, 6), dx(rows * width, 7);
      Array<accumulate_t<T>> sums(width, 8);
      check_repeats([&] { K::add_column_sums(y.device(), rows, width, sums.device()); }, sums);
      Reference::add_column_sums(y.wide(), rows, width, sums.wide());
      CHECK(sums.error() <= kernel_tolerance<float>);
      check_repeats([&] { K::add_bias(bias.device(), rows, width, y.device()); }, y);
      Reference::add_bias(bias.wide(), rows, width, y.wide());
      CHECK(y.error() <= kernel_tolerance<T>);
      y.restore();
      Array<T> gated(rows * width, 2);
      check_repeats([&] { K::add_gated(factors.device(), x.device(), rows, width, gated.device()); }, gated);
      Reference::add_gated(factors.wide(), x.wide(), rows, width, gated.wide());
      CHECK(gated.error() <= kernel_tolerance<T>);
      check_repeats(
          [&] {
            K::add_gated_backward(factors.device(), x.device(), g.device(), rows, width, dgate.device(), dx.device());
          },
          dgate, dx);
      Reference::add_gated_backward(factors.wide(), x.wide(), g.wide(), rows, width, dgate.wide(), dx.wide());
      CHECK(dgate.error() <= kernel_tolerance<T>);
      CHECK(dx.error() <= kernel_tolerance<T>);
      check_repeats([&] { K::scale_each_row(factors.device(), rows, width, x.device()); }, x);
      Reference::scale_each_row(factors.wide(), rows, width, x.wide());
      CHECK(x.error() <= kernel_tolerance<T>);
    }
}

TEMPLATE_TEST_CASE("rows gathered and scattered on CUDA equal the CPU's", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  constexpr std::int64_t width = 13;
  const std::vector<std::int64_t> rows = {4, 0, 8, 3};
  const auto count = static_cast<std::int64_t>(rows.size());
  Array<T> x(9 * width, 1), picked(count * width, 2), y(9 * width, 3);
  const Indices<std::int64_t> index(rows);
  Kernels<Cuda, T>::gather_rows(x.device(), index.device(), count, width, picked.device());
  Reference::gather_rows(x.wide(), rows.data(), count, width, picked.wide());
  CHECK(picked.error() == 0);
  Kernels<Cuda, T>::scatter_add_rows(picked.device(), index.device(), count, width, y.device());
  Reference::scatter_add_rows(picked.wide(), rows.data(), count, width, y.wide());
  CHECK(y.error() <= kernel_tolerance<T>);
}

TEMPLATE_TEST_CASE("the sum of squares on CUDA equals the CPU's", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  for (const std::int64_t n : {0, 1, 1031, 70000}) {
    Array<TestType> x(n, 1);
    const double got = Kernels<Cuda, TestType>::sum_squares(x.device(), n);
    CHECK(got == Approx(Reference::sum_squares(x.wide(), n)).epsilon(1e-12));
    CHECK(got == Kernels<Cuda, TestType>::sum_squares(x.device(), n));
  }
}

TEMPLATE_TEST_CASE("sums of squares of several arrays on CUDA have the bits of one after the other", "[cuda]", float,
                   bf16) {
  KDLIB_NEEDS_DEVICE();
  using K = Kernels<Cuda, TestType>;
  const Array<TestType> a(1031, 1), b(7, 2), c(70000, 3);
  double sums[4] = {-1, -1, -1, -1};
  const Buffer<double, Cuda> there(4);
  K::sum_squares_each({{a.device(), 1031}, {nullptr, 0}, {b.device(), 7}, {c.device(), 70000}}, there.data());
  Memory<Cuda>::to_host(sums, there.data(), sizeof sums);
  CHECK(sums[0] == K::sum_squares(a.device(), 1031));
  CHECK(sums[1] == 0);
  CHECK(sums[2] == K::sum_squares(b.device(), 7));
  CHECK(sums[3] == K::sum_squares(c.device(), 70000));
}

TEST_CASE("AdamW on CUDA equals the CPU's over three steps", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  constexpr std::int64_t n = 301;
  Array<float> gradient(n, 1, 0.1), value(n, 2);
  Array<float> first(std::vector<double>(n, 0.0)), second(std::vector<double>(n, 0.0));
  for (int t = 1; t <= 3; ++t) {
    AdamWStep step;
    step.rate = 1e-2, step.weight_decay = 0.1, step.gradient_scale = 0.5;
    step.correction1 = 1 - std::pow(step.beta1, t), step.correction2 = 1 - std::pow(step.beta2, t);
    Kernels<Cuda, float>::adamw(step, n, gradient.device(), first.device(), second.device(), value.device());
    Reference::adamw(step, n, gradient.wide(), first.wide(), second.wide(), value.wide());
  }
  CHECK(value.error() <= kernel_tolerance<float>);
  CHECK(first.error() <= kernel_tolerance<float>);
  CHECK(second.error() <= kernel_tolerance<float>);
}

TEMPLATE_TEST_CASE("NaN stays visible on CUDA and stays in its row", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  using T = TestType;
  constexpr std::int64_t rows = 3, width = 40;
  Array<T> x(rows * width, 1), weight(width, 2), y(rows * width, 3);
  x.set(width + 5, std::numeric_limits<double>::quiet_NaN());
  Kernels<Cuda, T>::rms_norm(x.device(), weight.device(), rows, width, 1e-6, y.device(), nullptr);
  for (std::int64_t r = 0; r < rows; ++r)
    for (const std::int64_t c : {0, 39}) CHECK(std::isnan(y.at(r * width + c)) == (r == 1));
  Kernels<Cuda, T>::swiglu(x.device(), x.device(), rows * width, y.device());
  CHECK(std::isnan(y.at(width + 5)));
  CHECK_FALSE(std::isnan(y.at(width + 4)));
  CHECK(std::isnan(Kernels<Cuda, T>::sum_squares(x.device(), rows * width)));
}
