// SPDX-License-Identifier: Apache-2.0
// Decoder::from_pretrained: a plan (load_plan.hpp), checked, then carried out.
#ifndef KDLIB_CHECKPOINT_LOAD_INL_HPP
#define KDLIB_CHECKPOINT_LOAD_INL_HPP

#include <atomic>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kdlib/checkpoint/load_plan.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/io/mapped_file.hpp"
#include "kdlib/quant/coded_matrix.hpp"
#include "kdlib/quant/stored_matrix.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The weight as it lies in its file; empty where it cannot stay there (transposed, packed, of several element types).
std::optional<StoredParts> stored_parts(const PlannedWeight& w);
/// The codes of a linear map of a packed directory.
CodedData read_codes(const LoadPlan& plan, const PlannedWeight& w);

/// A run of rows of one tensor (or one expert of it) that one thread reads.
template <class D, class T>
struct ReadPiece {
  const PlannedTensor* tensor;
  const PlannedTensor* scales;  // of MXFP4 codes
  Parameter<T, D>* parameter;
  std::int64_t row, rows;
};

/// The bytes of its file that a piece is read from.
template <class D, class T>
std::span<const std::byte> piece_bytes(const ReadPiece<D, T>& piece) {
  const PlannedTensor& t = *piece.tensor;
  if (t.decoding != TensorDecoding::elements) {
    const std::size_t expert = t.data.size() / static_cast<std::size_t>(piece.parameter->value[0]);
    return t.data.subspan(static_cast<std::size_t>(piece.row) * expert, expert);
  }
  const std::size_t width = static_cast<std::size_t>(t.rows.width), values = block_size(t.elements);
  return t.data.subspan(static_cast<std::size_t>(piece.row) * width / values * block_bytes(t.elements),
                        static_cast<std::size_t>(piece.rows) * width / values * block_bytes(t.elements));
}

/// Rows of elements or blocks, put where they belong.
template <class D, class T>
void read_rows(const ReadPiece<D, T>& piece) {
  const PlannedTensor& t = *piece.tensor;
  const std::size_t width = static_cast<std::size_t>(t.rows.width), n = static_cast<std::size_t>(piece.rows) * width;
  std::vector<T> values(n);
  decode_elements(t.elements, piece_bytes(piece).data(), values.data(), n);
  if (t.rows.added != 0)
    for (T& value : values) value = static_cast<T>(value - static_cast<accumulate_t<T>>(t.rows.added));
  T* to = piece.parameter->value.data();
  if (t.rows.consecutive())
    return Memory<D>::from_host(to + t.rows.source(piece.row) * t.rows.width, values.data(), n * sizeof(T));
  for (std::int64_t r = 0; r < piece.rows; ++r)
    Memory<D>::from_host(to + t.rows.source(piece.row + r) * t.rows.width,
                         values.data() + static_cast<std::size_t>(r) * width, width * sizeof(T));
}

/// Expert `piece.row` of a tensor [E, in, out].
template <class D, class T>
void read_transposed(const ReadPiece<D, T>& piece) {
  const PlannedTensor& t = *piece.tensor;
  const Shape& shape = piece.parameter->value.shape();
  const std::size_t out = static_cast<std::size_t>(shape[1]), in = static_cast<std::size_t>(shape[2]), n = out * in;
  const std::size_t e = static_cast<std::size_t>(piece.row);
  std::vector<T> across(n), values(n);
  decode_elements(t.elements, piece_bytes(piece).data(), across.data(), n);
  for (std::size_t i = 0; i < in; ++i)
    for (std::size_t o = 0; o < out; ++o) values[o * in + i] = across[i * out + o];
  Memory<D>::from_host(piece.parameter->value.data() + e * n, values.data(), n * sizeof(T));
}

/// OCP microscaling FP4: byte b of a block of 32 holds values 2b (low nibble) and 2b + 1; value = E2M1 code * 2^(scale
/// - 127).
template <class T>
std::vector<T> decode_mxfp4_slice(std::span<const std::byte> blocks, std::span<const std::byte> scale_bytes,
                                  const std::string& where) {
  const auto byte = [](std::byte b) { return std::to_integer<std::uint8_t>(b); };
  constexpr double codes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  std::vector<T> values(blocks.size() * 2);
  for (std::size_t s = 0; s < scale_bytes.size(); ++s) {
    const int scale = byte(scale_bytes[s]);
    require<FormatError>(scale != 255, "[decoder] ", where, ": scale ", s, " is 255 (NaN)");
    T table[16];
    for (std::size_t c = 0; c < 16; ++c)
      table[c] = static_cast<T>(std::ldexp(c < 8 ? codes[c] : -codes[c - 8], scale - 127));
    for (std::size_t b = 0; b < 16; ++b) {
      const std::uint8_t pair = byte(blocks[s * 16 + b]);
      values[s * 32 + 2 * b] = table[pair & 15];
      values[s * 32 + 2 * b + 1] = table[pair >> 4];
    }
  }
  return values;
}

/// Expert `piece.row` of MXFP4 codes and scales.
template <class D, class T>
void read_mxfp4(const ReadPiece<D, T>& piece) {
  const Shape& shape = piece.parameter->value.shape();
  const std::size_t n = static_cast<std::size_t>(shape[1] * shape[2]), e = static_cast<std::size_t>(piece.row);
  const std::vector<T> values =
      decode_mxfp4_slice<T>(piece_bytes(piece), piece.scales->data.subspan(e * (n / 32), n / 32), piece.scales->name);
  Memory<D>::from_host(piece.parameter->value.data() + e * n, values.data(), n * sizeof(T));
}

/// Splits the tensors of a parameter into pieces of about a million values, or of an expert.
template <class D, class T>
void append_pieces(std::vector<ReadPiece<D, T>>& pieces, const PlannedWeight& w, Parameter<T, D>& parameter) {
  for (std::size_t i = 0; i < w.tensors.size(); ++i) {
    const PlannedTensor& t = w.tensors[i];
    if (t.decoding == TensorDecoding::mxfp4_scales) continue;
    const bool by_expert = t.decoding != TensorDecoding::elements;
    const std::int64_t rows = by_expert ? w.shape[0] : t.rows.rows;
    const std::int64_t step = by_expert           ? 1
                              : t.rows.width == 1 ? rows  // blocks of a vector go across its rows
                                                  : 1 + (std::int64_t{1} << 20) / (t.rows.width + 1);
    const PlannedTensor* scales = t.decoding == TensorDecoding::mxfp4 ? &w.tensors[i + 1] : nullptr;
    for (std::int64_t row = 0; row < rows; row += step)
      pieces.push_back({&t, scales, &parameter, row, rows - row < step ? rows - row : step});
  }
}

template <class D, class T>
void read_pieces(const std::vector<ReadPiece<D, T>>& pieces) {
  std::atomic<std::size_t> next{0};
  parallel_parts(thread_count(), [&](int, int) {
    for (std::size_t i = next.fetch_add(1); i < pieces.size(); i = next.fetch_add(1)) {
      check_stop();
      const ReadPiece<D, T>& piece = pieces[i];
      if (piece.tensor->decoding == TensorDecoding::transposed) read_transposed(piece);
      else if (piece.tensor->decoding == TensorDecoding::mxfp4) read_mxfp4(piece);
      else read_rows(piece);
      release_pages(piece_bytes(piece));  // else the file would lie in memory twice
    }
  });
}

/// Gives the model the values that the plan says. `model` was made without_values() of the plan's configuration.
template <class D, class T>
void carry_out(const LoadPlan& plan, Decoder<D, T>& model, WeightStorage storage) {
  std::vector<const PlannedWeight*> in_memory;
  for (const PlannedWeight& w : plan.weights) {
    std::shared_ptr<const PackedMatrix<T, D>> packed;
    if (!w.zero && w.tensors.front().decoding == TensorDecoding::codes)
      packed = std::make_shared<CodedMatrix<T, D>>(read_codes(plan, w));
    else if (w.packable && storage == WeightStorage::in_file)
      if (std::optional<StoredParts> parts = stored_parts(w))
        packed = std::make_shared<StoredMatrix<T, D>>(std::move(*parts), plan.files);
    if (packed != nullptr) model.pack_weight(w.name, std::move(packed));
    else in_memory.push_back(&w);
  }
  const std::vector<Parameter<T, D>*> parameters = model.parameters();
  allocate_parameters<D, T>(parameters);
  std::vector<ReadPiece<D, T>> pieces;
  std::size_t next = 0;
  for (const PlannedWeight* w : in_memory) {  // both lists are in the order of parameters()
    while (parameters[next]->name != w->name) ++next;
    if (w->zero) parameters[next]->value.fill_zero();
    append_pieces<D, T>(pieces, *w, *parameters[next]);
  }
  if (!counts_now<D>()) read_pieces<D, T>(pieces);
}

}  // namespace detail

template <class D, class T>
Decoder<D, T> Decoder<D, T>::from_pretrained(const std::string& path, const LoadSettings& settings) {
  require<ConfigError>(settings.weights == WeightStorage::decoded || !settings.trainable, "[decoder] ", path,
                       ": weights that stay in the file cannot be trained; load with trainable = false (LoRA may be "
                       "added), or with decoded weights");
  const LoadPlan plan = plan_load<D, T>(path);
  plan.check();
  Decoder model = plan.random_seed ? from_config(plan.config, *plan.random_seed) : without_values(plan.config);
  if (!plan.random_seed) detail::carry_out<D, T>(plan, model, settings.weights);
  model.set_source(path, plan.notes);
  model.set_trainable(settings.trainable);
  return model;
}

KDLIB_NAMESPACE_END

#endif
