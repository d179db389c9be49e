// SPDX-License-Identifier: Apache-2.0
// Weights in the formats of files: values equal decode_row's, products equal those with decoded values, at every level
// of the CPU.
#include "kdlib/quant/stored_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/rng.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

constexpr GgufType all_types[] = {GgufType::f32,  GgufType::f16,  GgufType::bf16, GgufType::f64,  GgufType::q4_0,
                                  GgufType::q4_1, GgufType::q5_0, GgufType::q5_1, GgufType::q8_0, GgufType::q4_k,
                                  GgufType::q5_k, GgufType::q6_k, GgufType::mxfp4};

std::vector<CpuLevel> levels() {
  std::vector<CpuLevel> list;
  for (const CpuLevel l : {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avx512})
    if (l <= detail::best_cpu_level()) list.push_back(l);
  return list;
}

struct LevelGuard {
  CpuLevel before = cpu_level();
  ~LevelGuard() { set_cpu_level(before); }
};

std::vector<std::byte> random_bytes(std::size_t n, std::uint32_t row) {
  std::vector<std::byte> out(n);
  const Rng rng(7, RngPurpose::test, 0, row);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::byte>(rng.uniform(static_cast<std::uint32_t>(i)) * 256);
  return out;
}

std::vector<float> random_floats(std::size_t n, std::uint32_t row) {
  std::vector<float> out(n);
  const Rng rng(9, RngPurpose::test, 0, row);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(rng.uniform(static_cast<std::uint32_t>(i)) * 2 - 1);
  return out;
}

void put_half(std::byte* at, float x) {
  const std::uint16_t bits = f16(x).bits;
  std::memcpy(at, &bits, 2);
}

/// Rows of random codes whose scales are numbers of a size that weights have.
std::vector<std::byte> random_rows(GgufType type, std::int64_t rows, std::int64_t columns) {
  const std::size_t values = block_size(type), bytes = block_bytes(type),
                    blocks = static_cast<std::size_t>(rows * columns) / values;
  std::vector<std::byte> out = random_bytes(blocks * bytes, static_cast<std::uint32_t>(type));
  const std::vector<float> numbers = random_floats(2 * blocks, static_cast<std::uint32_t>(type));
  for (std::size_t i = 0; i < blocks; ++i) {
    std::byte* b = out.data() + i * bytes;
    const float x = numbers[2 * i], y = numbers[2 * i + 1];
    const double wide = static_cast<double>(x) + 1e-12;
    const bf16 brain(x);
    switch (type) {
      case GgufType::f32:
        std::memcpy(b, &x, 4);
        break;
      case GgufType::f64:
        std::memcpy(b, &wide, 8);
        break;
      case GgufType::f16:
        put_half(b, x);
        break;
      case GgufType::bf16:
        std::memcpy(b, &brain.bits, 2);
        break;
      case GgufType::q6_k:
        put_half(b + 208, 0.01f * x);
        break;
      case GgufType::mxfp4:
        b[0] = static_cast<std::byte>(118 + static_cast<int>(8 * std::fabs(x)));
        break;
      case GgufType::q4_1:
      case GgufType::q5_1:
      case GgufType::q4_k:
      case GgufType::q5_k:
        put_half(b, 0.1f * x), put_half(b + 2, 0.1f * y);
        break;
      default:
        put_half(b, 0.1f * x);
        break;
    }
  }
  return out;
}

std::vector<float> decoded(GgufType type, const std::vector<std::byte>& bytes, std::int64_t rows,
                           std::int64_t columns) {
  std::vector<float> out(static_cast<std::size_t>(rows * columns));
  const std::size_t row = bytes.size() / static_cast<std::size_t>(rows);
  for (std::int64_t r = 0; r < rows; ++r)
    decode_row(type, bytes.data() + static_cast<std::size_t>(r) * row, out.data() + r * columns,
               static_cast<std::size_t>(columns));
  return out;
}

/// The largest |y - reference| over the size of the sum's terms.
template <class T>
double product_error(const std::vector<float>& w, std::int64_t begin, std::int64_t count, std::int64_t columns,
                     const std::vector<T>& x, std::int64_t m, double beta, const std::vector<T>& before,
                     const std::vector<T>& y) {
  double worst = 0;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t r = 0; r < count; ++r) {
      const std::size_t at = static_cast<std::size_t>(i * count + r);
      double sum = beta * static_cast<double>(before[at]), size = 1e-3;
      for (std::int64_t c = 0; c < columns; ++c) {
        const double term = static_cast<double>(w[static_cast<std::size_t>((begin + r) * columns + c)]) *
                            static_cast<double>(x[static_cast<std::size_t>(i * columns + c)]);
        sum += term;
        size += std::fabs(term);
      }
      worst = std::max(worst, std::fabs(sum - static_cast<double>(y[at])) / size);
    }
  return worst;
}

template <class T>
StoredMatrix<T, Cpu> matrix_of(GgufType type, const std::vector<std::byte>& bytes, std::int64_t rows,
                               std::int64_t columns, std::int64_t rotated = 0) {
  return StoredMatrix<T, Cpu>({type, {bytes.data()}, {}, rows, columns, rotated, false}, nullptr);
}

}  // namespace

TEST_CASE("stored rows decode to the values of decode_row, bit for bit", "[quant][stored]") {
  const LevelGuard guard;
  for (const CpuLevel level : levels()) {
    set_cpu_level(level);
    for (const GgufType type : all_types) {
      CAPTURE(cpu_level_name(level), gguf_type_name(type));
      const std::int64_t rows = 37, columns = 512;
      const auto bytes = random_rows(type, rows, columns);
      const auto expected = decoded(type, bytes, rows, columns);
      const auto m = matrix_of<float>(type, bytes, rows, columns);
      std::vector<float> out(expected.size());
      m.decode(0, rows, out.data());
      CHECK(out == expected);
      std::vector<float> part(static_cast<std::size_t>(3 * columns));
      m.decode(11, 3, part.data());
      CHECK(std::equal(part.begin(), part.end(), expected.begin() + 11 * columns));
      const auto wide = matrix_of<double>(type, bytes, rows, columns);
      std::vector<double> doubles(expected.size());
      wide.decode(0, rows, doubles.data());
      CHECK(std::equal(doubles.begin(), doubles.end(), expected.begin(),
                       [](double a, float b) { return a == static_cast<double>(b); }));
      CHECK(m.bytes() == static_cast<std::int64_t>(bytes.size()));
    }
  }
}

TEST_CASE("products with stored rows equal those with decoded values", "[quant][stored]") {
  const LevelGuard guard;
  for (const CpuLevel level : levels()) {
    set_cpu_level(level);
    for (const GgufType type : all_types)
      for (const std::int64_t m : {1, 2, 3, 4, 5, 7, 16, 40}) {
        CAPTURE(cpu_level_name(level), gguf_type_name(type), m);
        const std::int64_t rows = 133, columns = 768, begin = 5, count = 126;
        const auto bytes = random_rows(type, rows, columns);
        const auto w = decoded(type, bytes, rows, columns);
        const auto x = random_floats(static_cast<std::size_t>(m * columns), 1),
                   before = random_floats(static_cast<std::size_t>(m * rows), 2);
        const auto matrix = matrix_of<float>(type, bytes, rows, columns);
        std::vector<float> y = before;
        matrix.multiply_few(m, x.data(), 0.5f, y.data());
        CHECK(product_error(w, 0, rows, columns, x, m, 0.5, before, y) < Tolerance<float>::elementwise);
        const std::vector<float> empty(static_cast<std::size_t>(m * count), 0.0f);
        std::vector<float> part(empty.size(), std::nanf(""));
        matrix.multiply(begin, count, m, x.data(), 0.0f, part.data(), count);
        CHECK(product_error(w, begin, count, columns, x, m, 0, empty, part) < Tolerance<float>::elementwise);
      }
  }
}

TEST_CASE("stored products in double equal those with decoded values", "[quant][stored]") {
  const std::int64_t rows = 70, columns = 256;
  for (const GgufType type : {GgufType::f64, GgufType::bf16, GgufType::q4_1, GgufType::q6_k})
    for (const std::int64_t m : {1, 5, 33}) {
      CAPTURE(gguf_type_name(type), m);
      const auto bytes = random_rows(type, rows, columns);
      const auto w = decoded(type, bytes, rows, columns);
      const auto floats = random_floats(static_cast<std::size_t>(m * columns), 1);
      const std::vector<double> x(floats.begin(), floats.end()), zero(static_cast<std::size_t>(m * rows), 0.0);
      std::vector<double> y = zero;
      matrix_of<double>(type, bytes, rows, columns).multiply(0, rows, m, x.data(), 0.0, y.data(), rows);
      CHECK(product_error(w, 0, rows, columns, x, m, 0, zero, y) <
            (type == GgufType::f64 ? Tolerance<float>::elementwise
                                   : Tolerance<double>::elementwise));  // decode_row is float
    }
}

TEST_CASE("the backward product of stored rows equals that of decoded values", "[quant][stored]") {
  const std::int64_t rows = 96, columns = 256, m = 6;
  const auto bytes = random_rows(GgufType::q4_1, rows, columns);
  const auto w = decoded(GgufType::q4_1, bytes, rows, columns);
  const auto dy = random_floats(static_cast<std::size_t>(m * rows), 1);
  std::vector<float> dx(static_cast<std::size_t>(m * columns), 0.25f), expected = dx;
  matrix_of<float>(GgufType::q4_1, bytes, rows, columns).multiply_back(0, rows, m, dy.data(), rows, 1.0f, dx.data());
  Kernels<Cpu, float>::gemm(false, false, m, columns, rows, 1.0f, dy.data(), rows, w.data(), columns, 1.0f,
                            expected.data(), columns);
  for (std::size_t i = 0; i < dx.size(); ++i)
    CHECK(std::fabs(dx[i] - expected[i]) < 1e2f * static_cast<float>(Tolerance<float>::elementwise));
}

TEST_CASE("values that lie in memory as the model has them are multiplied where they lie", "[quant][stored]") {
  const std::int64_t rows = 48, columns = 40, half = rows / 2;
  auto bytes = random_rows(GgufType::bf16, rows, columns);
  const auto bytes_of_half = static_cast<std::size_t>(half * columns * 2);
  const auto stored = [&](std::vector<const std::byte*> parts, std::int64_t head, bool alternate) {
    return StoredMatrix<bf16, Cpu>({GgufType::bf16, std::move(parts), {}, rows, columns, head, alternate}, nullptr);
  };
  const auto* w = reinterpret_cast<const bf16*>(bytes.data());
  const auto plain = stored({bytes.data()}, 0, false);
  CHECK(plain.values(0, rows) == w);
  CHECK(plain.values(7, 3) == w + 7 * columns);
  const auto parts = stored({bytes.data() + bytes_of_half, bytes.data()}, 0, false);
  CHECK(parts.values(half + 2, half - 2) == w + 2 * columns);
  CHECK(parts.values(half - 1, 2) == nullptr);  // of two parts, which need not follow each other
  CHECK(stored({bytes.data()}, 8, false).values(0, rows) == nullptr);
  CHECK(stored({bytes.data(), bytes.data() + bytes_of_half}, 0, true).values(0, half) == nullptr);
  CHECK((matrix_of<float>(GgufType::bf16, bytes, rows, columns).values(0, rows) == nullptr));  // another type
  bytes.insert(bytes.begin(), std::byte{0});
  CHECK(stored({bytes.data() + 1}, 0, false).values(0, rows) == nullptr);  // at an odd address
  bytes.erase(bytes.begin());

  for (const std::int64_t m : {1, 12, 70}) {
    std::vector<bf16> x, dy, y(static_cast<std::size_t>(m * rows)), dx(static_cast<std::size_t>(m * columns));
    for (const float v : random_floats(static_cast<std::size_t>(m * columns), 5)) x.emplace_back(v);
    for (const float v : random_floats(static_cast<std::size_t>(m * rows), 6)) dy.emplace_back(v);
    auto expected = y, expected_back = dx;
    const auto* values = reinterpret_cast<const bf16*>(bytes.data());
    const auto again = stored({bytes.data()}, 0, false);
    again.multiply(0, rows, m, x.data(), 0, y.data(), rows);
    again.multiply_back(0, rows, m, dy.data(), rows, 0, dx.data());
    Kernels<Cpu, bf16>::gemm(false, true, m, rows, columns, 1.0f, x.data(), columns, values, columns, 0.0f,
                             expected.data(), rows);
    Kernels<Cpu, bf16>::gemm(false, false, m, columns, rows, 1.0f, dy.data(), rows, values, columns, 0.0f,
                             expected_back.data(), columns);
    CHECK(std::memcmp(y.data(), expected.data(), y.size() * sizeof(bf16)) == 0);
    CHECK(std::memcmp(dx.data(), expected_back.data(), dx.size() * sizeof(bf16)) == 0);
  }
}

TEST_CASE("rotated heads, many parts and odd widths are read in the right order", "[quant][stored]") {
  const std::int64_t rows = 24, columns = 64, head = 8;
  const auto bytes = random_rows(GgufType::q8_0, rows, columns);
  const auto w = decoded(GgufType::q8_0, bytes, rows, columns);
  const auto x = random_floats(static_cast<std::size_t>(columns), 3);
  const auto rotated = matrix_of<float>(GgufType::q8_0, bytes, rows, columns, head);
  const auto plain = matrix_of<float>(GgufType::q8_0, bytes, rows, columns);
  const auto row_bytes = static_cast<std::size_t>(plain.ranges().row_bytes());
  const StoredMatrix<float, Cpu> alternate(
      {GgufType::q8_0, {bytes.data(), bytes.data() + 12 * row_bytes}, {}, rows, columns, 0, true}, nullptr);
  std::vector<float> ay(24);
  alternate.multiply_few(1, x.data(), 0, ay.data());
  const StoredMatrix<float, Cpu> parts({GgufType::q8_0,
                                        {bytes.data() + 16 * row_bytes, bytes.data(), bytes.data() + 8 * row_bytes},
                                        {},
                                        rows,
                                        columns,
                                        0,
                                        false},
                                       nullptr);
  std::vector<float> y(24), ry(24), py(24), row(static_cast<std::size_t>(columns));
  plain.multiply_few(1, x.data(), 0, y.data());
  rotated.multiply_few(1, x.data(), 0, ry.data());
  parts.multiply_few(1, x.data(), 0, py.data());
  for (std::int64_t r = 0; r < rows; ++r) {
    // GGUF holds pairs (i, i + 4) of a head side by side: its rows are 0 4 1 5 2 6 3 7.
    const std::int64_t inside = r % head, from = r - inside + (inside < 4 ? 2 * inside : 2 * (inside - 4) + 1);
    CHECK(ry[static_cast<std::size_t>(r)] == y[static_cast<std::size_t>(from)]);
    CHECK(ay[static_cast<std::size_t>(r)] == y[static_cast<std::size_t>(r % 2 * 12 + r / 2)]);
    CHECK(py[static_cast<std::size_t>(r)] == y[static_cast<std::size_t>((r + 16) % rows)]);
    rotated.decode(r, 1, row.data());
    CHECK(std::equal(row.begin(), row.end(), w.begin() + from * columns));
  }
  const std::int32_t ids[] = {23, 0, 23};
  std::vector<float> gathered(static_cast<std::size_t>(3 * columns));
  plain.gather(ids, 3, gathered.data());
  CHECK(std::equal(gathered.begin(), gathered.begin() + columns, w.begin() + 23 * columns));
  CHECK(std::equal(gathered.begin() + columns, gathered.begin() + 2 * columns, w.begin()));

  const auto odd = random_rows(GgufType::bf16, 9, 13);  // no whole runs of 32: plain loops
  const auto values = decoded(GgufType::bf16, odd, 9, 13);
  const auto ox = random_floats(13, 4);
  const std::vector<float> zero(9, 0.0f);
  std::vector<float> oy = zero;
  matrix_of<float>(GgufType::bf16, odd, 9, 13).multiply_few(1, ox.data(), 0, oy.data());
  CHECK(product_error(values, 0, 9, 13, ox, 1, 0, zero, oy) < Tolerance<float>::elementwise);
}

TEST_CASE("MXFP4 with scales apart equals the blocks of GGUF", "[quant][stored]") {
  const LevelGuard guard;
  const std::int64_t rows = 20, columns = 96;
  const auto codes = random_bytes(static_cast<std::size_t>(rows * columns / 2), 1);
  auto scales = random_bytes(static_cast<std::size_t>(rows * columns / 32), 2);
  scales[0] = std::byte{0}, scales[1] = std::byte{1}, scales[2] = std::byte{254};
  std::vector<float> expected(static_cast<std::size_t>(rows * columns));
  constexpr double table[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};  // E2M1
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (scales[i / 32] == std::byte{255}) scales[i / 32] = std::byte{100};
    const int code = (static_cast<int>(codes[i / 2]) >> (i % 2 == 0 ? 0 : 4)) & 15;
    expected[i] = static_cast<float>(
        std::ldexp(code < 8 ? table[code] : -table[code - 8], static_cast<int>(scales[i / 32]) - 127));
  }
  const StoredMatrix<float, Cpu> m({GgufType::mxfp4, {codes.data()}, {scales.data()}, rows, columns, 0, false},
                                   nullptr);
  for (const CpuLevel level : levels()) {
    set_cpu_level(level);
    std::vector<float> out(expected.size());
    m.decode(0, rows, out.data());
    CHECK(out == expected);
  }
  CHECK(m.bytes() == rows * columns * 17 / 32);
  CHECK_THROWS_AS(
      (StoredMatrix<float, Cpu>({GgufType::q8_0, {codes.data()}, {scales.data()}, rows, columns, 0, false}, nullptr)),
      ShapeError);
  CHECK_THROWS_AS((StoredMatrix<float, Cpu>({GgufType::q8_0, {codes.data()}, {}, rows, 33, 0, false}, nullptr)),
                  ShapeError);
}
