// SPDX-License-Identifier: Apache-2.0
// The bits that the documents promise, held against exact arithmetic and printed as fingerprints. tests/checks compiles
// this file with several compilers and flags; tests/bits/compare wants the same lines from each and those of
// expected.txt. Lines that begin with "libm" depend on the C library's exp, log, pow and cos: they are equal on one
// machine only.
#include <algorithm>
#include <limits>

#include "exact.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/nn/rope_table.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/quant/coded_data.hpp"
#include "kdlib/quant/gguf_encode.hpp"
#include "kdlib/rollout/sampler.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

constexpr std::int64_t rows = 24, columns = 512;

/// Weights with few bits, as published ones have (bfloat16): their products lie on ties far more often than those of
/// floats. Some groups have exact ties, zeros of both signs, one value or values of very different sizes.
std::vector<float> weights() {
  std::vector<float> w(static_cast<std::size_t>(rows * columns));
  const Rng rng(11, RngPurpose::test);
  for (std::size_t i = 0; i < w.size(); ++i) {
    const auto at = static_cast<std::uint32_t>(i);
    const double u = 2 * rng.uniform(at) - 1;
    const std::size_t group = i / 64;
    float x = static_cast<float>(bf16(static_cast<float>(0.1 * u)));
    if (group % 16 == 3) x = static_cast<float>(std::floor(16 * u)) * 0.5f;
    if (group % 16 == 5) x = (rng.bits(at) & 1u) != 0 ? 0.0f : -0.0f;
    if (group % 16 == 7) x = 0.5f;
    if (group % 16 == 9) x = static_cast<float>(std::ldexp(u, -static_cast<int>(rng.bits(at) % 40)));
    if (group % 16 == 11) x = static_cast<float>(u);
    w[i] = x;
  }
  return w;
}

struct Group {
  std::vector<float> codes;
  float scale = 0, zero = 0;
};

/// coded_data.hpp's formulas in exact arithmetic.
Group exact_group(const float* w, std::int64_t count, float n, Int4Rule rule) {
  float low = *std::min_element(w, w + count), high = *std::max_element(w, w + count);
  Group g;
  const auto clamp = [&](float q) { return std::clamp(q, -n, n - 1); };
  const auto least = std::numeric_limits<float>::min();
  if (rule == Int4Rule::affine) {
    g.scale = div(std::fmax(sub(high, low), 1e-6f), 2 * n - 1);
    g.zero = add(low, mul(n, g.scale));
    for (std::int64_t i = 0; i < count; ++i) g.codes.push_back(clamp(nearest(div(sub(w[i], low), g.scale)) - n));
    return g;
  }
  if (rule == Int4Rule::symmetric) {
    g.scale = std::fmax(div(std::fmax(std::fabs(low), std::fabs(high)), n - 0.5f), least);
  } else {
    low = std::fmin(low, 0.0f), high = std::fmax(high, 0.0f);
    g.scale = std::fmax(div(sub(high, low), 2 * n - 1), least);
    g.zero = clamp(-n - nearest(div(low, g.scale)));
  }
  const float inverse = div(1.0f, g.scale);
  for (std::int64_t i = 0; i < count; ++i) g.codes.push_back(clamp(nearest(mul(w[i], inverse)) + g.zero));
  return g;
}

std::vector<CpuLevel> levels_here() {
  std::vector<CpuLevel> out{CpuLevel::portable};
  for (const CpuLevel level : {CpuLevel::avx2, CpuLevel::avx512})
    if (level <= detail::best_cpu_level()) out.push_back(level);
  return out;
}

/// Calls decode(out) at every vector level; all must give `right`. The kernels are called without the classes above
/// them, whose products take a minute to compile.
template <class F>
void expect_decoded(const std::string& what, F decode, const std::vector<float>& right) {
  for (const CpuLevel level : levels_here()) {
    set_cpu_level(level);
    std::vector<float> out(right.size());
    decode(out.data());
    expect_same(what + " decoded, " + cpu_level_name(level), out, right);
  }
}
void expect_decoded(CodedData data, const std::vector<float>& right) {  // by value: readable bytes must follow
  const std::array<float, 16> levels = code_levels(data.settings.kind);
  CodedRanges w;
  const auto padded = [](auto& values) {
    const bool empty = values.empty();
    values.resize(values.size() + 64);
    return empty ? nullptr : values.data();
  };
  w.codes = padded(data.codes), w.small_scale = padded(data.small_scale);
  w.scale = padded(data.scale), w.zero = padded(data.zero);
  w.nested_map = padded(data.nested_map), w.nested_scale = padded(data.nested_scale);
  w.levels = data.bits() == 8 ? nullptr : levels.data();
  w.nested_offset = data.nested_offset;
  w.rows = data.rows, w.columns = data.columns, w.group = data.settings.group_size, w.bits = data.bits();
  w.shifted = data.settings.rule == Int4Rule::asymmetric, w.crossing = data.crossing();
  expect_decoded(
      describe(data.settings), [&](float* out) { Kernels<Cpu, float>::coded_decode(w, 0, w.rows, out); }, right);
}

void check_integers(const std::vector<float>& w) {
  for (const PackedKind kind : {PackedKind::int3, PackedKind::int4, PackedKind::int8})
    for (const Int4Rule rule : {Int4Rule::symmetric, Int4Rule::affine, Int4Rule::asymmetric}) {
      QuantizeSettings settings{.kind = kind, .group_size = 64, .rule = rule};
      const CodedData data = encode_weights(w.data(), rows, columns, settings);
      const float n = static_cast<float>(1 << (data.bits() - 1));
      std::vector<float> codes, scale, zero, values, got;
      for (std::size_t begin = 0; begin < w.size(); begin += 64) {
        const Group g = exact_group(w.data() + begin, 64, n, rule);
        codes.insert(codes.end(), g.codes.begin(), g.codes.end());
        scale.push_back(g.scale);
        if (rule != Int4Rule::symmetric) zero.push_back(g.zero);
        for (const float q : g.codes)
          values.push_back(rule == Int4Rule::asymmetric ? mul(sub(q, g.zero), g.scale) : add(mul(q, g.scale), g.zero));
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        std::vector<std::uint8_t> row(columns);
        unpack_codes(data.codes.data() + r * data.row_bytes(), data.bits(), row);
        for (const std::uint8_t q : row) got.push_back(q < n ? q : static_cast<float>(q) - 2 * n);
      }
      expect_same(describe(settings) + " codes", got, codes);
      expect_same(describe(settings) + " scale", data.scale, scale);
      expect_same(describe(settings) + " zero", data.zero, zero);
      expect_decoded(data, values);
      Fingerprint print;
      print.take(data.codes), print.take(data.scale), print.take(data.zero), print.take(values);
      print_line(describe(settings), print);
    }
}

/// nf4, fp4 and mxfp4: decoding by the formula; the codes against those of the formula's nearest level.
void check_tables(const std::vector<float>& w) {
  for (const PackedKind kind : {PackedKind::nf4, PackedKind::fp4, PackedKind::mxfp4})
    for (const bool nested : {false, true}) {
      if (nested && kind == PackedKind::mxfp4) continue;
      QuantizeSettings settings{.kind = kind, .group_size = kind == PackedKind::mxfp4 ? 32 : 64};
      settings.double_quantized = nested;
      const CodedData data = encode_weights(w.data(), rows, columns, settings);
      const std::array<float, 16> level = code_levels(kind);
      std::vector<float> values;
      for (std::int64_t r = 0; r < rows; ++r) {
        std::vector<std::uint8_t> row(columns);
        unpack_codes(data.codes.data() + r * data.row_bytes(), 4, row);
        for (std::int64_t c = 0; c < columns; ++c) {
          const auto at = static_cast<std::size_t>((r * columns + c) / settings.group_size);
          float scale = 0;
          if (nested)
            scale = add(mul(data.nested_map[data.small_scale[at]], data.nested_scale[at / 256]), data.nested_offset);
          else if (kind == PackedKind::mxfp4) scale = narrow(std::ldexp(1.0, data.small_scale[at] - 127));
          else scale = data.scale[at];
          values.push_back(add(mul(level[row[static_cast<std::size_t>(c)]], scale), 0.0f));
        }
      }
      expect_decoded(data, values);
      Fingerprint print;
      print.take(data.codes), print.take(data.scale), print.take(data.small_scale), print.take(data.nested_scale);
      print.take(data.nested_map), print.take(data.nested_offset), print.take(values);
      print_line(describe(settings), print);
    }
}

/// ggml's reference quantisation of one block of 32, in exact arithmetic; the codes in the order of the values.
std::vector<float> exact_gguf_codes(GgufType type, const float* x) {
  const bool five = type == GgufType::q5_0 || type == GgufType::q5_1;
  const float top = five ? 31.0f : 15.0f, middle = five ? 16.0f : 8.0f;
  std::vector<float> out;
  if (type == GgufType::q4_1 || type == GgufType::q5_1) {
    const float low = *std::min_element(x, x + 32), high = *std::max_element(x, x + 32), d = div(sub(high, low), top);
    const float inverse = d != 0 ? div(1.0f, d) : 0.0f;
    for (int j = 0; j < 32; ++j) out.push_back(std::fmin(top, std::trunc(add(mul(sub(x[j], low), inverse), 0.5f))));
    return out;
  }
  float extreme = 0;
  for (int j = 0; j < 32; ++j)
    if (std::fabs(x[j]) > std::fabs(extreme)) extreme = x[j];
  const float d = type == GgufType::q8_0 ? div(std::fabs(extreme), 127.0f) : div(extreme, -middle);
  const float inverse = d != 0 ? div(1.0f, d) : 0.0f;
  for (int j = 0; j < 32; ++j)
    out.push_back(type == GgufType::q8_0 ? std::round(mul(x[j], inverse))
                                         : std::fmin(top, std::trunc(add(mul(x[j], inverse), middle + 0.5f))));
  return out;
}

/// The code of value j of a block, read from the bytes.
float gguf_code(GgufType type, const std::uint8_t* b, int j) {
  if (type == GgufType::q8_0) return static_cast<float>(static_cast<std::int8_t>(b[2 + j]));
  const bool five = type == GgufType::q5_0 || type == GgufType::q5_1;
  const std::uint8_t* high = b + (type == GgufType::q4_1 || type == GgufType::q5_1 ? 4 : 2);
  const std::uint8_t* q = high + (five ? 4 : 0);
  const int low = j < 16 ? q[j] & 15 : q[j - 16] >> 4;
  return static_cast<float>(five ? low | ((high[j / 8] >> (j % 8)) & 1) << 4 : low);
}

/// Decodes blocks by the plain loops and at every vector level, and prints what came.
void decode_blocks_everywhere(GgufType type, const std::vector<std::byte>& blocks, Fingerprint& print) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  decode_row(type, blocks.data(), values.data(), values.size());
  const std::byte* part = blocks.data();
  StoredRanges w;
  w.type = type, w.parts = &part;
  w.part_rows = w.rows = rows, w.columns = columns;
  expect_decoded(
      gguf_type_name(type), [&](float* out) { Kernels<Cpu, float>::stored_decode(w, 0, rows, out); }, values);
  print.take(values);
}

void check_gguf(const std::vector<float>& w) {
  for (const GgufType type : {GgufType::q8_0, GgufType::q4_0, GgufType::q4_1, GgufType::q5_0, GgufType::q5_1,
                              GgufType::mxfp4, GgufType::f16, GgufType::bf16}) {
    std::vector<std::byte> blocks(w.size() / block_size(type) * block_bytes(type));
    encode_row(type, w.data(), blocks.data(), w.size());
    std::vector<float> right, got;
    for (std::size_t begin = 0; begin < w.size() && block_size(type) == 32 && type != GgufType::mxfp4; begin += 32) {
      const std::vector<float> codes = exact_gguf_codes(type, w.data() + begin);
      right.insert(right.end(), codes.begin(), codes.end());
      const auto* b = reinterpret_cast<const std::uint8_t*>(blocks.data()) + begin / 32 * block_bytes(type);
      for (int j = 0; j < 32; ++j) got.push_back(gguf_code(type, b, j) + 0.0f);
    }
    for (float& q : right) q += 0.0f;  // no negative zeros
    expect_same(std::string(gguf_type_name(type)) + " codes", got, right);
    Fingerprint print;
    print.take(blocks);
    decode_blocks_everywhere(type, blocks, print);
    print_line(gguf_type_name(type), print);
  }
  const Rng rng(12, RngPurpose::test);
  for (const GgufType type : {GgufType::q4_k, GgufType::q5_k, GgufType::q6_k}) {  // blocks of any bytes, finite scales
    const std::size_t bytes = block_bytes(type);
    std::vector<std::byte> blocks(w.size() / 256 * bytes);
    for (std::size_t i = 0; i < blocks.size(); ++i)
      blocks[i] = static_cast<std::byte>(rng.bits(static_cast<std::uint32_t>(i)));
    for (std::size_t b = 0; b < blocks.size(); b += bytes)
      for (const std::size_t half : {std::size_t{0}, std::size_t{2}, bytes - 2}) {
        if ((type == GgufType::q6_k) != (half == bytes - 2)) continue;
        blocks[b + half + 1] &= std::byte{0x3B};  // below 2
      }
    Fingerprint print;
    decode_blocks_everywhere(type, blocks, print);
    print_line(gguf_type_name(type), print);
  }
}

}  // namespace

#include "bits_of_runs.hpp"

int main() {
  const std::vector<float> w = weights();
  check_integers(w);
  check_tables(w);
  check_gguf(w);
  check_conversions();
  check_sampler();
  check_optimiser<float>("float");
  check_optimiser<double>("double");
  print_formulas();
  return failures() == 0 ? 0 : 1;
}
