// SPDX-License-Identifier: Apache-2.0
// Attention of kdlib::cuda by cuDNN, where a program asks for it: what cuDNN takes, and what goes to the library's own
// kernels all the same. The rule is a function of numbers, so that it is known without a device.
#ifndef KDLIB_BACKEND_CUDA_LIBRARY_ATTENTION_HPP
#define KDLIB_BACKEND_CUDA_LIBRARY_ATTENTION_HPP

#include <bit>
#include <compare>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/core/dtype.hpp"
#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Whose attention kernels run on CUDA.
enum class AttentionLibrary { own, cudnn };

namespace detail {

/// What cuDNN is here.
struct CudnnFacts {
  bool built = false;        // kdlib::cuda was compiled with it (KDLIB_CUDNN)
  int version = 0;           // 10000 major + 100 minor + patch of what was loaded
  int major = 0, minor = 0;  // compute capability of the device
};
CudnnFacts cudnn_facts();

enum class AttentionPass { forward, backward };

/// Bytes that the deterministic backward pass of cuDNN keeps: the gradient of all probabilities in 16 bits.
constexpr std::int64_t most_probability_gradients = std::int64_t{1} << 30;

/// Lengths that share a plan of cuDNN, as making one takes about a second: steps of 128, above 1024 of a quarter of
/// the power of two below.
inline std::int64_t rounded_length(std::int64_t length) {
  const auto whole = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(length < 1 ? 1 : length)));
  const std::int64_t step = whole / 4 > 128 ? whole / 4 : 128;
  return (length + step - 1) / step * step;
}

/// Why an attention goes to the own kernels although cuDNN was asked for; nullptr where cuDNN takes it. Attention sinks
/// are kernels of their own behind either.
inline const char* cudnn_refusal(const AttentionHeads& heads, const DocumentRanges& documents, DType type,
                                 AttentionPass pass, const CudnnFacts& facts) {
  if (facts.version < 91900) return "cuDNN is older than 9.19";
  if (facts.major < 9) return "packed documents need compute capability 9.0";
  if (facts.major >= 12) return "its backward pass of packed documents is not deterministic above capability 11";
  if (type != DType::bf16) return "it multiplies 16-bit numbers alone";
  if (heads.softcap != 0) return "scores have a soft cap";
  if (heads.window != 0) return "queries see a window";
  if (heads.head_size % 16 != 0 || heads.head_size > 128) return "the head size is not a multiple of 16 up to 128";
  if (documents.longest <= 0) return "the host does not know the documents' lengths";
  if (documents.shortest < 1) return "a document is empty, which gives NaN before 9.25";
  if (pass == AttentionPass::forward) return nullptr;
  if (documents.shortest < 2) return "a document has one token, whose gradients may be NaN";
  const std::int64_t length = rounded_length(documents.longest);
  if (documents.documents * heads.query_heads * length * length * 2 > most_probability_gradients)
    return "its deterministic backward pass would keep more than 1 GiB of probabilities";
  return nullptr;
}

/// What a plan of cuDNN was made for.
struct CudnnPlanKey {
  AttentionPass pass = AttentionPass::forward;
  std::int64_t documents = 0, length = 0, query_heads = 0, kv_heads = 0, head_size = 0;
  double scale = 0;

  auto operator<=>(const CudnnPlanKey&) const = default;
};
inline CudnnPlanKey cudnn_plan_key(const AttentionHeads& heads, const DocumentRanges& documents, AttentionPass pass) {
  return {pass,
          documents.documents,
          rounded_length(documents.longest),
          heads.query_heads,
          heads.kv_heads,
          heads.head_size,
          heads.scale};
}

/// Arrays of the device that are given to cuDNN: bf16 [tokens, heads * head_size] token by token, log_sum
/// [tokens, query_heads], and where the documents begin in each, in elements.
struct CudnnAttention {
  CudnnPlanKey key = {};
  const std::int32_t* lengths = nullptr;                                                           // [documents]
  const std::int64_t *query_offsets = nullptr, *kv_offsets = nullptr, *log_sum_offsets = nullptr;  // [documents + 1]
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  const void* out = nullptr;           // read by the backward pass, written by the other
  const float* log_sum = nullptr;      // the same; nullptr: not wanted
  const void* out_gradient = nullptr;  // of the backward pass, which overwrites the next three
  void *q_gradient = nullptr, *k_gradient = nullptr, *v_gradient = nullptr;
};
/// Queues the pass on the compute stream. BackendError for a plan that was never made while a graph is captured.
void run_cudnn_attention(const CudnnAttention& attention);

/// The choice of this program, which begins with KDLIB_CUDA_ATTENTION.
inline AttentionLibrary& chosen_attention() {
  static AttentionLibrary chosen = [] {
    const char* text = std::getenv("KDLIB_CUDA_ATTENTION");
    if (text == nullptr || *text == '\0' || std::strcmp(text, "own") == 0) return AttentionLibrary::own;
    require<ConfigError>(std::strcmp(text, "cudnn") == 0, "[cuda] KDLIB_CUDA_ATTENTION is '", text,
                         "'; it must be own or cudnn");
    require<BackendError>(cudnn_facts().built, "[cuda] KDLIB_CUDA_ATTENTION=cudnn, and kdlib::cuda was compiled ",
                          "without cuDNN; configure with KDLIB_CUDNN=ON");
    return AttentionLibrary::cudnn;
  }();
  return chosen;
}

}  // namespace detail

/// Whose attention kernels run on CUDA: the library's own, or cuDNN's where they take an attention (16-bit numbers,
/// head sizes up to 128, no window, no soft cap, no empty document; docs/design.md has the rule). BackendError where
/// kdlib::cuda was compiled without cuDNN. The environment's KDLIB_CUDA_ATTENTION=own|cudnn is the first choice.
inline void set_attention_library(AttentionLibrary library) {
  require<BackendError>(library == AttentionLibrary::own || detail::cudnn_facts().built,
                        "[cuda] kdlib::cuda was compiled without cuDNN; configure with KDLIB_CUDNN=ON");
  detail::chosen_attention() = library;
}
/// What set_attention_library chose.
inline AttentionLibrary attention_library() { return detail::chosen_attention(); }

KDLIB_NAMESPACE_END

#endif
