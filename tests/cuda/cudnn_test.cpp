// SPDX-License-Identifier: Apache-2.0
// Attention by cuDNN beside the library's own kernels, both against Kernels<Cpu, double> on the same rounded inputs.
#include <algorithm>

#include "cuda/kernel_cases.hpp"
#include "kdlib/backend/cuda/library_attention.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {
using Reference = Kernels<Cpu, double>;

struct ChosenLibrary {
  explicit ChosenLibrary(AttentionLibrary library) { set_attention_library(library); }
  ~ChosenLibrary() { set_attention_library(AttentionLibrary::own); }
};

struct Documents {
  std::vector<std::int64_t> offsets = {0};
  std::int64_t shortest, longest;

  explicit Documents(const std::vector<std::int64_t>& lengths)
      : shortest(*std::min_element(lengths.begin(), lengths.end())),
        longest(*std::max_element(lengths.begin(), lengths.end())) {
    for (const std::int64_t n : lengths) offsets.push_back(offsets.back() + n);
  }
  DocumentRanges ranges(const std::int64_t* at) const {
    return {at, static_cast<std::int64_t>(offsets.size()) - 1, offsets.back(), shortest, longest};
  }
};

/// Forward and backward of one layout by `library` against the reference.
void check_attention_by(AttentionLibrary library, const AttentionHeads& h, const Documents& d) {
  const ChosenLibrary chosen(library);
  const Indices<std::int64_t> offsets(d.offsets);
  const DocumentRanges device = d.ranges(offsets.device()), host = d.ranges(offsets.host());
  const std::int64_t n = device.tokens, nq = n * h.query_heads * h.head_size, nk = n * h.kv_heads * h.head_size;
  using Own = Kernels<Cuda, bf16>;
  Array<bf16> q(nq, 1), k(nk, 2), v(nk, 3), out(nq, 4), g(nq, 5), dq(nq, 6), dk(nk, 7), dv(nk, 8);
  Array<float> log_sum(n * h.query_heads, 9);
  check_repeats([&] { Own::attention(h, device, q.device(), k.device(), v.device(), out.device(), log_sum.device()); },
                out, log_sum);
  Reference::attention(h, host, q.wide(), k.wide(), v.wide(), out.wide(), log_sum.wide());
  CHECK(out.error() <= kernel_tolerance<bf16>);
  CHECK(log_sum.error() <= kernel_tolerance<float>);
  Own::attention(h, device, q.device(), k.device(), v.device(), out.device(), nullptr);
  CHECK(out.error() <= kernel_tolerance<bf16>);
  out.adopt(), log_sum.adopt();
  check_repeats(
      [&] {
        Own::attention_backward(h, device, q.device(), k.device(), v.device(), out.device(), log_sum.device(),
                                g.device(), dq.device(), dk.device(), dv.device());
      },
      dq, dk, dv);
  Reference::attention_backward(h, host, q.wide(), k.wide(), v.wide(), out.wide(), log_sum.wide(), g.wide(), dq.wide(),
                                dk.wide(), dv.wide());
  CHECK(dq.error() <= kernel_tolerance<bf16>);
  CHECK(dk.error() <= kernel_tolerance<bf16>);
  CHECK(dv.error() <= kernel_tolerance<bf16>);
}

}  // namespace

TEST_CASE("cuDNN is loaded where kdlib::cuda was compiled with it", "[cuda]") {
  const detail::CudnnFacts facts = detail::cudnn_facts();
  if (!facts.built) {
    CHECK(facts.version == 0);
    CHECK_THROWS_WITH(set_attention_library(AttentionLibrary::cudnn), contains("compiled without cuDNN"));
    KDLIB_SKIP("cuDNN: kdlib::cuda was compiled without it (KDLIB_CUDNN)");
  }
  CHECK(facts.version >= 91900);
  CHECK(attention_library() == AttentionLibrary::own);
}

TEST_CASE("attention by cuDNN and by the own kernels equal the CPU's, and repeat", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  if (!detail::cudnn_facts().built) KDLIB_SKIP("cuDNN: kdlib::cuda was compiled without it (KDLIB_CUDNN)");
  struct Case {
    std::vector<std::int64_t> lengths;
    std::int64_t query_heads, kv_heads, head_size, window;
  };
  // Lengths about tiles of 64 and 128 keys; the last three go to the own kernels.
  for (const Case& c : {Case{{5}, 1, 1, 16, 0}, Case{{2, 64, 33}, 4, 2, 64, 0}, Case{{65, 127}, 2, 1, 128, 0},
                        Case{{130, 3}, 2, 2, 32, 0}, Case{{20, 7}, 2, 1, 16, 9}, Case{{20, 1}, 2, 1, 16, 0},
                        Case{{9, 0, 4}, 2, 1, 16, 0}}) {
    CAPTURE(c.lengths, c.head_size, c.window);
    const AttentionHeads h{.query_heads = c.query_heads,
                           .kv_heads = c.kv_heads,
                           .head_size = c.head_size,
                           .window = c.window,
                           .scale = 1 / std::sqrt(double(c.head_size))};
    check_attention_by(AttentionLibrary::own, h, Documents(c.lengths));
    check_attention_by(AttentionLibrary::cudnn, h, Documents(c.lengths));
  }
}
