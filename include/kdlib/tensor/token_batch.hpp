// SPDX-License-Identifier: Apache-2.0
// Tokens of several documents laid end to end, without padding: what models, teachers, losses and trainers hand to each
// other.
#ifndef KDLIB_TENSOR_TOKEN_BATCH_HPP
#define KDLIB_TENSOR_TOKEN_BATCH_HPP

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/tensor/routing_record.hpp"

KDLIB_NAMESPACE_BEGIN

/// N tokens of B documents. Document b holds tokens [offsets[b], offsets[b+1]); attention never crosses documents and
/// positions restart at 0 (positions may be given otherwise). Padding never enters: from_padded drops it, whichever
/// side it was on.
///
/// A row of the loss is a token whose NEXT token counts: row weight w of token i belongs to predicting ids[i+1] of the
/// same document.
struct TokenBatch {
  std::vector<std::int32_t> ids;            // [N]
  std::vector<std::int64_t> offsets = {0};  // [B+1], offsets[0] = 0, offsets[B] = N
  std::vector<float>
      weights;  // [N] or empty (all 0 at the end of a document, else 1): weight of predicting the next token
  std::vector<float> behaviour_log_probs;  // [N] or empty: natural log-probability under which the NEXT token was drawn
  std::vector<std::int32_t> positions;     // [N] or empty (0, 1, ... in each document)
  std::vector<std::int32_t>
      spans;  // [N] or empty: number of the span (RunSettings::spans) that the NEXT token is in, -1: in none
  std::vector<std::string> sources;  // [B] or empty: where a document comes from, for messages and reports
  RoutingRecord
      routing;  // of all N tokens, or empty: the experts that wrote the text (training passes may follow them)

  std::int64_t tokens() const { return static_cast<std::int64_t>(ids.size()); }
  std::int64_t documents() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
  std::int64_t length(std::int64_t b) const {
    return offsets[static_cast<std::size_t>(b + 1)] - offsets[static_cast<std::size_t>(b)];
  }
  /// Tokens of the shortest and of the longest document; 0, 0 without documents.
  std::pair<std::int64_t, std::int64_t> length_range() const {
    std::pair<std::int64_t, std::int64_t> range{0, 0};
    for (std::int64_t b = 0; b < documents(); ++b)
      range = {b == 0 ? length(b) : std::min(range.first, length(b)), std::max(range.second, length(b))};
    return range;
  }

  /// Appends one document; `document_weights` as long as `document` or empty for "every token but the last";
  /// `document_spans` as long or empty (-1). Positions and sources, where the batch has them, go on with 0, 1, ... and
  /// an empty name; log-probs and routing are the caller's to append.
  void append(std::span<const std::int32_t> document, std::span<const float> document_weights = {},
              std::span<const std::int32_t> document_spans = {});
  /// Appends all documents of another batch with everything that belongs to them. What only one of the two has gets its
  /// default for the other: weights, positions, spans, sources, unknown experts. ShapeError: one has log-probs and the
  /// other has documents without, or their routing is of different models.
  void append(const TokenBatch& other);

  /// Document b as a batch of its own, with everything that belongs to it. ShapeError: there is none.
  TokenBatch document(std::int64_t b) const { return part(b, 1); }
  /// The same of documents [first, first + count).
  TokenBatch part(std::int64_t first, std::int64_t count) const;

  /// Rows whose weight is not 0, with their next token: what the loss and the teacher's head look at.
  struct Rows {
    std::vector<std::int64_t> token;  // [R] index into ids
    std::vector<std::int32_t> label;  // [R] ids[token + 1]
    std::vector<float> weight;        // [R]
    std::vector<float> behaviour;     // [R] or empty
    std::vector<std::int32_t> span;   // [R] or empty
  };
  Rows rows() const;

  /// Sum of the row weights: the batch's share of the step's normaliser.
  double weight() const;

  /// From a padded matrix: ids and mask [B, L] row-major, mask 1 for real tokens, loss_mask (optional) 1 where the next
  /// token counts.
  static TokenBatch from_padded(std::span<const std::int64_t> ids, std::span<const std::int64_t> mask,
                                std::int64_t batch, std::int64_t length, std::span<const std::int64_t> loss_mask = {});

  /// Where a token stands, for messages: "data.jsonl:12: token 5" of its document where sources are known, else its
  /// index in the batch, "token 95".
  std::string place_of(std::int64_t token) const;

  /// Throws ShapeError / InputError when lengths disagree, a document is empty, an id lies outside [0, vocabulary) or a
  /// weight is negative or not finite.
  void check(std::int64_t vocabulary) const;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/tensor/token_batch_inl.hpp"
#endif

#endif
