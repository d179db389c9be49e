// SPDX-License-Identifier: Apache-2.0
// The settings that kernels get besides pointers, and the concepts that say which kernels a backend has.
#ifndef KDLIB_BACKEND_CONCEPTS_HPP
#define KDLIB_BACKEND_CONCEPTS_HPP

#include <cstddef>
#include <cstdint>

#include "kdlib/io/gguf_types.hpp"
#include "kdlib/tensor/device.hpp"

KDLIB_NAMESPACE_BEGIN

/// Heads of grouped-query attention: query head j reads key/value head j / (query_heads / kv_heads).
struct AttentionHeads {
  std::int64_t query_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_size = 0;  // even
  std::int64_t window = 0;     // number of keys that a query sees, its own included; 0 = its own and all before it
  double scale = 0;            // factor of q.k, usually 1/sqrt(head_size)
  double softcap = 0;          // c > 0: scaled scores s become c tanh(s / c); 0: scores are not changed
};

/// The activation of the gate of a gated feed-forward part: silu is x sigmoid(x), gelu_tanh is GELU in its tanh form.
enum class GateActivation : std::uint8_t { silu, gelu_tanh };

/// Documents laid end to end: document b holds tokens [offsets[b], offsets[b+1]). `offsets` is on the device; the other
/// members are what the host knows about the documents.
struct DocumentRanges {
  const std::int64_t* offsets = nullptr;  // [documents + 1]
  std::int64_t documents = 0;
  std::int64_t tokens = 0;
  std::int64_t shortest = 0, longest = 0;  // lengths in tokens; longest = 0: not known
};

/// Keys and values of earlier tokens, both [slots * capacity, kv_heads * head_size]. Slot s holds the rows [s *
/// capacity, s * capacity + length).
template <class T>
struct CacheRanges {
  T* keys = nullptr;
  T* values = nullptr;
  std::int64_t capacity = 0;            // rows of a slot
  const std::int32_t* slots = nullptr;  // [documents] the slot of each document of the batch
  const std::int64_t* past = nullptr;   // [documents] rows that each slot held before this batch
};

/// A weight [rows, columns] in codes of 3, 4 or 8 bits, with one scale (and zero) for each group of `group` columns:
///   value = level(code) * scale + zero, or (level(code) - zero) * scale where `shifted`, each step rounded to float.
/// level(code) = levels[code]; if `levels` is null (8 bits), the level is the code as a signed integer. Eight codes of
/// a row form one little-endian word of `bits` bytes with the first code in the lowest bits, and each row starts on a
/// new word. 64 readable bytes must follow the arrays codes, scale, zero and small_scale.
struct CodedRanges {
  const std::uint8_t* codes = nullptr;  // [rows, row_bytes()]
  const float* levels = nullptr;        // [16]; for 3 bits the 8 levels stand twice; null for 8 bits
  const float* scale = nullptr;         // one for each group; null if small_scale holds the scales
  const std::uint8_t* small_scale =
      nullptr;  // a byte s for group i: scale 2^(s - 127), or nested_map[s] * nested_scale[i / 256] + nested_offset
  const float* nested_map = nullptr;    // [256]; null: no nested scales
  const float* nested_scale = nullptr;  // one for every 256 groups
  float nested_offset = 0;
  const float* zero = nullptr;  // one for each group; null: no zeros
  std::int64_t rows = 0, columns = 0, group = 0;
  int bits = 4;
  bool shifted = false;
  bool crossing = false;  // true: groups are counted through the flattened matrix and may cross the ends of rows;
                          // false: each row starts a new group, and the last group of a row may be shorter

  std::int64_t row_bytes() const { return (columns + 7) / 8 * bits; }
  std::int64_t row_groups() const { return (columns + group - 1) / group; }
  std::int64_t groups() const { return crossing ? (rows * columns + group - 1) / group : rows * row_groups(); }
};

/// A weight [rows, columns] as a file holds it, on the host and not necessarily aligned. Each row is a whole number of
/// blocks of `type` (F32, F16, BF16 and F64 of safetensors count as blocks, too). Row r is row r % part_rows of part r
/// / part_rows, because stacked experts may lie in many tensors.
struct StoredRanges {
  GgufType type = GgufType::f32;
  const std::byte* const* parts = nullptr;  // [rows / part_rows]
  const std::byte* const* scale_parts =
      nullptr;  // for MXFP4 of safetensors, whose scales [rows, columns / 32] are apart from the codes
                // [rows, columns / 2]; byte b of the codes holds values 2b and 2b + 1. nullptr: blocks as in GGUF
  std::int64_t part_rows = 0, rows = 0, columns = 0;
  bool alternate = false;  // two parts: even rows in the first, odd rows in the second
  std::int64_t rotated_head =
      0;  // head size if the rows of q or k are stored with pairs interleaved (GGUF of architecture llama); 0: in order

  std::int64_t row_bytes() const {
    if (scale_parts != nullptr) return columns / 2;
    return columns / static_cast<std::int64_t>(block_size(type)) * static_cast<std::int64_t>(block_bytes(type));
  }
  /// Returns the row of the file that holds row r of the matrix in half-split order.
  std::int64_t stored_row(std::int64_t r) const {
    if (rotated_head == 0) return r;
    const std::int64_t half = rotated_head / 2, inside = r % rotated_head;
    return r - inside + 2 * (inside % half) + inside / half;
  }
  const std::uint8_t* row(std::int64_t r) const {
    if (alternate) return reinterpret_cast<const std::uint8_t*>(parts[r % 2]) + r / 2 * row_bytes();
    const std::int64_t at = stored_row(r);
    return reinterpret_cast<const std::uint8_t*>(parts[at / part_rows]) + at % part_rows * row_bytes();
  }
  const std::uint8_t* row_scales(std::int64_t r) const {
    return scale_parts == nullptr
               ? nullptr
               : reinterpret_cast<const std::uint8_t*>(scale_parts[r / part_rows]) + r % part_rows * (columns / 32);
  }
  /// Returns rows [begin, begin + count) as values of T if they lie in memory in order and aligned; else nullptr.
  template <class T>
  const T* values(std::int64_t begin, std::int64_t count) const {
    constexpr GgufType own = std::is_same_v<T, bf16> ? GgufType::bf16 : sizeof(T) == 4 ? GgufType::f32 : GgufType::f64;
    if (type != own || rotated_head != 0 || alternate || count <= 0 || begin % part_rows + count > part_rows)
      return nullptr;
    const std::uint8_t* at = row(begin);
    return reinterpret_cast<std::uintptr_t>(at) % alignof(T) == 0 ? reinterpret_cast<const T*>(at) : nullptr;
  }
};

/// How the logits [N, E] of a router become K experts and their weights. The K largest logits are chosen, and of equal
/// logits the one with the lower index. The weights are a softmax over the chosen logits (`over_chosen`: Qwen with
/// norm_topk_prob, gpt-oss) or over all logits.
struct RouterRule {
  std::int64_t experts = 0;  // E
  std::int64_t active = 0;   // K, 1 <= K <= E
  bool over_chosen = true;
};

/// Rows sorted by expert: expert e owns rows [offsets[e], offsets[e+1]). `offsets` is on the device.
struct ExpertRanges {
  const std::int64_t* offsets = nullptr;  // [experts + 1]
  std::int64_t experts = 0;
  std::int64_t rows = 0;  // N * K
};

/// The activation of an expert between its maps, for u [rows, 2I], which holds gate and up. The result is silu(gate) *
/// up. With limit > 0 the result is g sigmoid(alpha g) (l + 1) with g = min(gate, limit) and l = clamp(up, -limit,
/// limit), as in gpt-oss. No gradient passes where a value reaches its limit or exceeds it.
struct ExpertActivation {
  bool interleaved = false;  // true: gate is in the even columns of u; false: in the first I columns
  double alpha = 1;
  double limit = 0;
};

/// The factor that an update multiplies gradients by. It may be on a device whose work has not been waited for.
struct GradientFactor {
  double norm = 0, factor = 1;
  std::int32_t finite = 1;  // 0: the norm or the loss of a row is not finite, so that no value may change
};

/// The numbers of AdamW for one step t (counted from 1).
struct AdamWStep {
  double rate = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  double correction1 = 1, correction2 = 1;  // 1 - beta1^t, 1 - beta2^t
  double gradient_scale = 1;                // factor of the gradients, for clipping
  const GradientFactor* there = nullptr;    // on a device that has gradient_factor(): used instead of gradient_scale
};

// The concepts below name the kernels of a backend, by group. C is the type of sums and factors.

/// A backend that has the matrix product of one device and scalar type (backend/cpu.hpp, gemm).
template <class D, class T>
concept HasMatmul = requires(const T* a, T* c, accumulate_t<T> x) {
  Kernels<D, T>::gemm(false, true, 1, 1, 1, x, a, 1, a, 1, x, c, 1);
};

/// A backend that can write products of 16-bit factors as sums of type accumulate_t<T>, as gradients of parameters
/// need, and that converts between both types (backend/cpu/widened.hpp; CudaMixed in backend/cuda.hpp). If logits have
/// the type accumulate_t<T>, gradients of logits can be factors, too. No backend meets this concept if accumulate_t<T>
/// is T.
template <class D, class T, class C = accumulate_t<T>>
concept HasMixedMatmul = is_sixteen_bit<T> &&
    requires(const T* a, const C* b, const logit_t<D, T>* z, T* c, C* d, C x) {
  Kernels<D, T>::gemm(false, true, 1, 1, 1, x, a, 1, a, 1, x, d, 1);
  Kernels<D, T>::gemm(false, true, 1, 1, 1, x, z, 1, a, 1, x, c, 1);
  Kernels<D, T>::widen(1, a, d);
  Kernels<D, T>::narrow(1, b, c);
};

/// A backend that has the elementwise and summing kernels (backend/cpu.hpp, CpuElementwise).
template <class D, class T, class C = accumulate_t<T>>
concept HasElementwise = requires(const std::int32_t* ids, const std::int64_t* rows, const T* x, const C* s, T* y, C* z,
                                  C alpha, AdamWStep step) {
  Kernels<D, T>::embedding(ids, 1, 1, x, y);
  Kernels<D, T>::embedding_backward(ids, 1, 1, x, z);
  Kernels<D, T>::rms_norm(x, x, 1, 1, 1e-6, y, z);
  Kernels<D, T>::rms_norm_backward(x, x, s, x, 1, 1, y, true, z);
  Kernels<D, T>::rope(y, ids, 1, 1, 2, s, s, false);
  Kernels<D, T>::swiglu(x, x, 1, y);
  Kernels<D, T>::swiglu_backward(x, x, x, 1, y, y);
  Kernels<D, T>::geglu(x, x, 1, y);
  Kernels<D, T>::geglu_backward(x, x, x, 1, y, y);
  Kernels<D, T>::add(x, x, 1, y);
  Kernels<D, T>::axpy(1, alpha, x, y);
  Kernels<D, T>::scale(1, alpha, y);
  Kernels<D, T>::fill_normal(1, 1.0, std::uint64_t{1}, std::uint32_t{0}, y);
  Kernels<D, T>::add_bias(x, 1, 1, y);
  Kernels<D, T>::add_column_sums(x, 1, 1, z);
  Kernels<D, T>::gather_rows(x, rows, 1, 1, y);
  Kernels<D, T>::scatter_add_rows(x, rows, 1, 1, y);
  Kernels<D, T>::scale_each_row(x, 1, 1, y);
  Kernels<D, T>::add_gated(x, x, 1, 1, y);
  Kernels<D, T>::add_gated_backward(x, x, x, 1, 1, y, y);
  Kernels<D, T>::sum_squares(x, 1);
  Kernels<D, T>::adamw(step, 1, s, z, z, y);
};

/// A backend that has attention over documents and over a cache (backend/cpu.hpp, CpuAttention).
template <class D, class T, class C = accumulate_t<T>>
concept HasAttention = requires(AttentionHeads h, DocumentRanges r, CacheRanges<T> c, const T* x, const C* s, T* y,
                                C* z, std::int32_t* positions, std::int64_t* past) {
  Kernels<D, T>::attention(h, r, x, x, x, y, z);
  Kernels<D, T>::attention_backward(h, r, x, x, x, x, s, x, y, y, y);
  Kernels<D, T>::attention_decode(h, r, c, x, x, x, y, z);
  Kernels<D, T>::advance(1, positions, past);
  Kernels<D, T>::attention_sinks(1, 1, 2, x, y, z);
  Kernels<D, T>::attention_sinks_backward(1, 1, 2, x, x, s, x, z);
};

/// A backend that routes tokens to experts and multiplies each row by the weight of its expert (backend/cpu.hpp,
/// CpuExperts).
template <class D, class T>
concept HasExperts = requires(RouterRule rule, ExpertRanges r, ExpertActivation activation, const T* x, T* y,
                              accumulate_t<T>* z, std::int32_t* ids, std::int64_t* places, double* sums) {
  Kernels<D, T>::route(rule, x, 1, ids, y);
  Kernels<D, T>::route_again(rule, x, 1, ids, y);
  Kernels<D, T>::route_backward(rule, x, ids, x, x, 1, y);
  Kernels<D, T>::take_known(ids, 1, ids);
  Kernels<D, T>::router_sums(rule, x, ids, 1, sums);
  Kernels<D, T>::router_totals(1, 1, sums, sums);
  Kernels<D, T>::router_sums_backward(rule, x, 1, sums, 1.0, 1.0, y);
  Kernels<D, T>::group_by_expert(rule, ids, 1, places, places, places);
  Kernels<D, T>::expert_multiply(r, 1, 1, x, x, x, y);
  Kernels<D, T>::expert_multiply_back(r, 1, 1, x, x, y);
  Kernels<D, T>::expert_weight_gradient(r, 1, 1, x, x, z);
  Kernels<D, T>::expert_bias_gradient(r, 1, x, z);
  Kernels<D, T>::expert_activation(activation, x, 1, 1, y);
  Kernels<D, T>::expert_activation_backward(activation, x, x, 1, 1, y);
  Kernels<D, T>::combine_rows(x, places, x, 1, 1, 1, y);
  Kernels<D, T>::expert_row_dots(r, 1, x, x, true, true, y);
};

/// A backend that reads weights in codes and in the formats of files (backend/cpu.hpp, CpuPacked).
template <class D, class T>
concept HasPackedWeights = requires(CodedRanges coded, StoredRanges stored, const std::int32_t* ids, const T* x, T* y,
                                    accumulate_t<T> beta) {
  Kernels<D, T>::coded_decode(coded, 0, 1, y);
  Kernels<D, T>::coded_gather(coded, ids, 1, y);
  Kernels<D, T>::coded_multiply_few(coded, 1, x, beta, y);
  Kernels<D, T>::stored_decode(stored, 0, 1, y);
  Kernels<D, T>::stored_multiply(stored, 0, 1, 1, x, beta, y, 1);
};

/// A backend that has everything that models need. As with HasKernels, the compiler keeps the first answer for the
/// whole translation unit.
template <class D, class T>
concept Backend =
    HasMatmul<D, T> && HasElementwise<D, T> && HasAttention<D, T> && HasExperts<D, T> && HasPackedWeights<D, T>;

KDLIB_NAMESPACE_END

#endif
