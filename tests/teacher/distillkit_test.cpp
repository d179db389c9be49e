// SPDX-License-Identifier: Apache-2.0
// DistillKit's compressed logits: bits, values and ids by the description of the format, and caches made from them.
#include "kdlib/teacher/distillkit.hpp"

#include <cmath>
#include <cstring>

#include "cache_support.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

using Octets = std::vector<std::uint8_t>;

template <class N>
void put(Octets& out, N value) {
  Octets bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

std::string json_list(const Octets& bytes) {
  std::string out = "[";
  for (const std::uint8_t b : bytes) out += (out.size() > 1 ? "," : "") + std::to_string(b);
  return out + "]";
}

/// 4 of 8 tokens: two exact, two from a line in their number.
DistillKitFormat small_format() { return {.vocabulary = 8, .top_k = 4, .exact_k = 2, .terms = {"0", "1"}}; }

Octets small_values(float first, float second, float offset, float slope) {
  Octets out;
  for (const float v : {first, second, offset, slope}) put(out, v);
  return out;
}

}  // namespace

TEST_CASE("ids and codes are packed with the highest bit first", "[teacher][distillkit]") {
  const std::vector<std::uint32_t> two{5, 3}, nine{1, 0, 1, 1, 0, 1, 0, 0, 1};
  CHECK((pack_bits(two, 3) == Octets{0xAC}));
  CHECK((pack_bits(nine, 1) == Octets{0xB4, 0x80}));
  CHECK((unpack_bits(Octets{0xAC}, 3, 2) == two));
  CHECK((unpack_bits(Octets{0xB4, 0x80}, 1, 9) == nine));
  CHECK_THROWS_WITH(unpack_bits(Octets{0xAC}, 3, 3), contains("1 bytes hold no 3 values of 3 bits"));
}

TEST_CASE("the configuration in use has 140 bytes of values and 288 of ids a token", "[teacher][distillkit]") {
  const DistillKitFormat f{
      .vocabulary = 151936, .top_k = 128, .exact_k = 32, .terms = {"0", "1", "2"}, .delta_encoding = true};
  f.check();
  CHECK(f.value_bytes() == 140);
  CHECK(f.index_bits() == 18);
  CHECK(f.index_bytes() == 288);
}

TEST_CASE("values are exact ones, a polynomial and residuals, and differences where the format says so",
          "[teacher][distillkit]") {
  DistillKitFormat f{.vocabulary = 100, .top_k = 7, .exact_k = 2, .terms = {"0", "1", "2", "sqrt", "exp"}};
  f.exact = DType::f16;
  f.bins = {{DType::f32, 3, 2}, {DType::bf16, 1, 2}};
  Octets bytes;
  put(bytes, f16(-0.5f)), put(bytes, f16(-1.25f));
  const float c[] = {-2, -0.5f, 0.125f, -0.25f, 0.0625f};
  for (const float v : c) put(bytes, v);
  put(bytes, 0.5f);
  const Octets three = pack_bits(std::vector<std::uint32_t>{5, 0}, 3);
  bytes.insert(bytes.end(), three.begin(), three.end());
  put(bytes, bf16(0.25f));
  const Octets one = pack_bits(std::vector<std::uint32_t>{1, 0}, 1);
  bytes.insert(bytes.end(), one.begin(), one.end());
  CHECK(static_cast<std::int64_t>(bytes.size()) == f.value_bytes());
  const auto curve = [&c](double x) {
    return c[0] + c[1] * x + c[2] * x * x + c[3] * std::sqrt(x) + c[4] * std::exp(x);
  };
  // Codes 5 and 0 of 3 bits stand for 1 and -4 scales; bits 1 and 0 for 1 and -1.
  const std::vector<double> expected{-0.5,    -1.25, curve(0) + 0.5, curve(1) - 2, curve(2) + 0.25, curve(3) - 0.25,
                                     curve(4)};
  const auto check = [&](const std::vector<double>& wanted) {
    const auto got = decode_distillkit_values(f, bytes);
    REQUIRE(got.size() == wanted.size());
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::abs(got[i] - wanted[i]) < 1e-12);
  };
  check(expected);
  f.delta_encoding = true;
  std::vector<double> sums;
  for (const double v : expected) sums.push_back((sums.empty() ? 0 : sums.back()) + v);
  check(sums);
  f.delta_encoding = false;
  f.normalize_t = true;
  check({-0.5, -1.25, curve(0) + 0.5, curve(0.25) - 2, curve(0.5) + 0.25, curve(0.75) - 0.25, curve(1)});
  bytes.pop_back();
  CHECK_THROWS_WITH(decode_distillkit_values(f, bytes), contains("has 31 bytes, the format has 32"));
}

TEST_CASE("a file of compressed rows becomes a cache that a student can learn from", "[teacher][distillkit]") {
  const TemporaryDirectory dir;
  const DistillKitFormat f = small_format();
  // log-probabilities of .4, .3, .15, .05 (the last two on a line in log-probability), ids 6, 1, 0, 7.
  const auto log = [](double p) { return static_cast<float>(std::log(p)); };
  const Octets values = small_values(log(.4), log(.3), log(.15), log(.05) - log(.15)),
               ids = pack_bits(std::vector<std::uint32_t>{6, 1, 0, 7}, 3);
  const std::string v = json_list(values), n = json_list(ids);
  write_file_atomically(dir / "d.jsonl",
                        "{\"input_ids\":[1,6,3],\"compressed_logprobs\":[" + v + "," + v + "," + v +
                            "],\"bytepacked_indices\":[" + n + "," + n + "," + n +
                            "]}\n"
                            "{\"input_ids\":[2,0,4],\"loss_mask\":[0,0,1],\"top_values\":[[-9,-9,-9,-9],"
                            "[-1,-2,-3,-1.5]],\"top_indices\":[[1,2,3,4],[4,5,6,7]]}\n");
  const CacheMeta meta = import_distillkit(dir / "d.jsonl", f, dir / "cache", {.teacher = "theirs"});
  CHECK(meta.complete);
  CHECK(meta.rows == 3);
  const TopKCache cache = TopKCache::open(dir / "cache");
  CHECK(cache.tokens().documents() == 2);
  CachedTeacher<Cpu, float> teacher(cache, {.temperature = 1});
  const TokenBatch tokens = cache.tokens();
  teacher.prepare(tokens);
  const auto targets = teacher.targets(0, 3);
  const std::int32_t expected_ids[] = {6, 1, 0, 7, 6, 1, 0, 7, 4, 7, 5, 6};
  const double expected[] = {.4,           .3,          .15, .05, .4, .3, .15, .05, std::exp(-1), std::exp(-1.5),
                             std::exp(-2), std::exp(-3)};
  for (std::size_t i = 0; i < 12; ++i) {
    CHECK(targets.ids.data()[i] == expected_ids[i]);
    CHECK(std::exp(static_cast<double>(targets.log_probs.data()[i])) == Approx(expected[i]).epsilon(1e-6));
  }
  CHECK(std::exp(static_cast<double>(targets.log_tail.data()[0])) == Approx(.1).epsilon(1e-5));
}

TEST_CASE("broken formats and rows are refused with file, line and numbers", "[teacher][distillkit]") {
  const auto format = [](const std::function<void(DistillKitFormat&)>& change) {
    DistillKitFormat f = small_format();
    change(f);
    return refusal([&] { f.check(); });
  };
  CHECK_THAT(format([](DistillKitFormat& f) { f.top_k = 9; }), contains("k is 9; it must be from 1 to d 8"));
  CHECK_THAT(format([](DistillKitFormat& f) { f.exact_k = 5; }), contains("exact_k is 5; it must be from 0 to k 4"));
  CHECK_THAT(format([](DistillKitFormat& f) { f.terms = {"log"}; }), contains("polynomial_terms has 'log'"));
  CHECK_THAT(format([](DistillKitFormat& f) {
               f.bins = {{DType::f32, 8, 3}};
             }),
             contains("the residual bins have 3 elements for 2 values that are not exact"));
  CHECK_THAT(format([](DistillKitFormat& f) { f.bins = {{DType::f32, 17, 1}}; }), contains("1 elements of 17 bits"));
  const auto refused = [](const std::string& line) {
    const TemporaryDirectory dir;
    write_file_atomically(dir / "d.jsonl", line + "\n");
    return refusal([&] { import_distillkit(dir / "d.jsonl", small_format(), dir / "cache"); });
  };
  const std::string rows = "\"top_values\":[[-1,-2,-3,-4]],\"top_indices\":[[1,2,3,4]]";
  CHECK(refused("{\"input_ids\":[1,2]," + rows + "}") == "nothing was refused");
  CHECK_THAT(refused("{\"input_ids\":[1,9]," + rows + "}"), contains("d.jsonl:1") && contains("is 9, d is 8"));
  CHECK_THAT(refused("{\"input_ids\":[1]," + rows + "}"), contains("has 1 ids; a text needs two"));
  CHECK_THAT(refused("{\"input_ids\":[1,2,3]," + rows + "}"), contains("has 1 entries and 1 lists of ids for 3 ids"));
  CHECK_THAT(refused("{\"input_ids\":[1,2],\"top_values\":[[-1,-2,-3]],\"top_indices\":[[1,2,3]]}"),
             contains("has 3 values and 3 ids, k is 4"));
  CHECK_THAT(refused("{\"input_ids\":[1,2],\"top_values\":[[0,-2,-3,-1]],\"top_indices\":[[1,2,3,4]]}"),
             contains("has probabilities that add up to 1.5"));
  CHECK_THAT(refused("{\"input_ids\":[1,2],\"top_values\":[[-1,-2,-3,-4]],\"top_indices\":[[1,2,3,3]]}"),
             contains("has ids from 1 to 3; they must differ and be below d 8"));
  const auto ids = [&](const std::string& last) {
    return refused("{\"input_ids\":[1,2],\"top_values\":[[-1,-2,-3,-4]],\"top_indices\":[[1,2,3," + last + "]]}");
  };
  CHECK_THAT(ids("4294967301"), contains("d.jsonl:1") && contains("top_indices[0][3] is 4294967301, d is 8"));
  CHECK_THAT(ids("-4294967291"), contains("is -4294967291, d is 8"));
  CHECK_THAT(ids("8"), contains("is 8, d is 8"));
  CHECK_THAT(refused("{\"input_ids\":[1,4294967298]," + rows + "}"), contains("is 4294967298, d is 8"));
  CHECK_THAT(refused("{\"input_ids\":[1,2],\"top_values\":[[-1,-2,-3,-1e300]],\"top_indices\":[[1,2,3,4]]}"),
             contains("holds -1e+300, which is no log-probability"));
  CHECK_THAT(refused("{\"input_ids\":[1,2],\"loss_mask\":[0,4294967296]," + rows + "}"),
             contains("loss_mask[1] is 4294967296, 0 or 1 is needed"));
  CHECK_THAT(refused("{\"input_ids\":[1,2],\"compressed_logprobs\":[[1,2,256]],\"bytepacked_indices\":[[1]]}"),
             contains("is 256, a byte is from 0 to 255"));
  CHECK_THAT(refused(""), contains("holds no line"));
}
