// SPDX-License-Identifier: Apache-2.0
// Attention of one query over a cache: part of vector_body_inl.hpp, included once for each instruction set, hence
// no include guard.
#ifdef KDLIB_VECTOR_SPACE

/// out[count packs] = sum over keys of p[t] v[t, :], kept in registers over all keys.
template <int Packs, class T>
KDLIB_LANE void weighted_rows(const T* p, const T* v, std::int64_t keys, std::int64_t stride, T* out) {
  constexpr std::int64_t w = Pack<T>::lanes;
  V<T> a{}, b{}, c{}, d{};
  for (std::int64_t t = 0; t < keys; ++t, v += stride) {
    const V<T> weight = splat(p[t]);
    a += weight * load(v);
    if constexpr (Packs > 1) b += weight * load(v + w);
    if constexpr (Packs > 2) c += weight * load(v + 2 * w);
    if constexpr (Packs > 3) d += weight * load(v + 3 * w);
  }
  store(out, a);
  if constexpr (Packs > 1) store(out + w, b);
  if constexpr (Packs > 2) store(out + 2 * w, c);
  if constexpr (Packs > 3) store(out + 3 * w, d);
}

/// One query against `keys` rows of a cache: out = softmax(scale * q k^T) v, scaled scores soft-capped where cap > 0.
/// scores [keys] is scratch, kept_sum may be nullptr.
template <class T>
KDLIB_LOOP void attend_one(const T* q, const T* k, const T* v, std::int64_t keys, std::int64_t stride,
                           std::int64_t head_size, T factor, T cap, T* scores, T* out, T* kept_sum) {
  constexpr std::int64_t w = Pack<T>::lanes;
  std::int64_t row = 0;
  for (; row + 3 <= keys; row += 3)
    dot_tile<1, 3, 0>(head_size, T{1}, q, head_size, k + row * stride, stride, 0, T{0}, scores + row, keys);
  for (; row < keys; ++row) scores[row] = dot_lanes(q, k + row * stride, head_size);
  if (cap > 0) softcap<T>(scores, keys, factor / cap, cap, scores);
  T log_sum;
  softmax_row(scores, keys, cap > 0 ? T{1} : factor, &log_sum);
  if (kept_sum != nullptr) *kept_sum = log_sum;
  std::int64_t i = 0;
  for (; i + 4 * w <= head_size; i += 4 * w) weighted_rows<4>(scores, v + i, keys, stride, out + i);
  for (; i + w <= head_size; i += w) weighted_rows<1>(scores, v + i, keys, stride, out + i);
  if (const std::int64_t rest = head_size - i; rest > 0) {
    V<T> even{}, odd{};
    std::int64_t t = 0;
    for (; t + 2 <= keys; t += 2) {
      even += scores[t] * load_part(v + t * stride + i, rest);
      odd += scores[t + 1] * load_part(v + (t + 1) * stride + i, rest);
    }
    if (t < keys) even += scores[t] * load_part(v + t * stride + i, rest);
    store_part<T>(out + i, even + odd, rest);
  }
}
#endif
