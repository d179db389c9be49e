// SPDX-License-Identifier: Apache-2.0
// Tokens of several documents laid end to end, without padding. Models, teachers, losses and trainers pass batches to
// each other in this form.
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

/// N tokens of B documents. Document b holds tokens [offsets[b], offsets[b+1]). Attention never crosses documents, and
/// positions restart at 0 in each document unless positions are given. A batch holds no padding: from_padded drops it,
/// on either side.
///
/// A row of the loss is a token whose NEXT token counts: the weight of token i is the weight of predicting ids[i+1] of
/// the same document.
struct TokenBatch {
  std::vector<std::int32_t> ids;            // [N]
  std::vector<std::int64_t> offsets = {0};  // [B+1], offsets[0] = 0, offsets[B] = N
  /// [N] weights of predicting the next token; or empty: 0 at the end of a document, else 1.
  std::vector<float> weights;
  /// [N] natural log-probability under which the NEXT token was drawn; or empty.
  std::vector<float> behaviour_log_probs;
  std::vector<std::int32_t> positions;  // [N], or empty: 0, 1, ... in each document
  /// [N] number of the span (RunSettings::spans) that the NEXT token is in, -1: in none; or empty.
  std::vector<std::int32_t> spans;
  std::vector<std::string> sources;  // [B] or empty: where each document comes from, for messages and reports
  /// The experts that wrote the text, for all N tokens, which training passes may follow; or empty.
  RoutingRecord routing;

  std::int64_t tokens() const { return static_cast<std::int64_t>(ids.size()); }
  std::int64_t documents() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
  std::int64_t length(std::int64_t b) const {
    return offsets[static_cast<std::size_t>(b + 1)] - offsets[static_cast<std::size_t>(b)];
  }
  /// Returns the number of tokens of the shortest and of the longest document; 0 and 0 without documents.
  std::pair<std::int64_t, std::int64_t> length_range() const {
    std::pair<std::int64_t, std::int64_t> range{0, 0};
    for (std::int64_t b = 0; b < documents(); ++b)
      range = {b == 0 ? length(b) : std::min(range.first, length(b)), std::max(range.second, length(b))};
    return range;
  }

  /// Appends one document. `document_weights` is as long as `document`, or empty for "every token but the last".
  /// `document_spans` is as long, or empty for -1. If the batch has positions or sources, the new document gets 0, 1,
  /// ... and an empty name. The caller must append log-probs and routing.
  void append(std::span<const std::int32_t> document, std::span<const float> document_weights = {},
              std::span<const std::int32_t> document_spans = {});
  /// Appends all documents of another batch with everything that belongs to them. If only one of the two batches has
  /// weights, positions, spans, sources or experts, the other one gets the default values (unknown experts). Throws
  /// ShapeError if only one of the batches has log-probs, or if their routing is of different models.
  void append(const TokenBatch& other);

  /// Returns document b as a batch of its own, with everything that belongs to it. Throws ShapeError if there is no
  /// such document.
  TokenBatch document(std::int64_t b) const { return part(b, 1); }
  /// Returns the same for documents [first, first + count).
  TokenBatch part(std::int64_t first, std::int64_t count) const;

  /// The rows whose weight is not 0, with their next tokens. The loss and the teacher's head use these rows.
  struct Rows {
    std::vector<std::int64_t> token;  // [R] index into ids
    std::vector<std::int32_t> label;  // [R] ids[token + 1]
    std::vector<float> weight;        // [R]
    std::vector<float> behaviour;     // [R] or empty
    std::vector<std::int32_t> span;   // [R] or empty
  };
  Rows rows() const;

  /// Returns the sum of the row weights: the share of this batch in the step's normaliser.
  double weight() const;

  /// Makes a batch from a padded matrix: `ids` and `mask` [B, L], row-major; `mask` is 1 for real tokens. `loss_mask`,
  /// if given, is 1 where the next token counts. Throws InputError for a row that is all padding, ShapeError for other
  /// sizes.
  static TokenBatch from_padded(std::span<const std::int64_t> ids, std::span<const std::int64_t> mask,
                                std::int64_t batch, std::int64_t length, std::span<const std::int64_t> loss_mask = {});

  /// Describes the place of a token for messages: "data.jsonl:12: token 5", counted in its document, if sources are
  /// known; else "token 95", counted in the batch.
  std::string place_of(std::int64_t token) const;

  /// Throws ShapeError if lengths disagree. Throws InputError if a document is empty, an id lies outside [0,
  /// vocabulary) or a weight is negative or not finite.
  void check(std::int64_t vocabulary) const;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/tensor/token_batch_inl.hpp"
#endif

#endif
