// SPDX-License-Identifier: Apache-2.0
// Checks and sums of head_loss.hpp that do not depend on a loss.
#ifndef KDLIB_LOSS_HEAD_LOSS_CHECKS_INL_HPP
#define KDLIB_LOSS_HEAD_LOSS_CHECKS_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/core/error.hpp"
#include "kdlib/loss/head_loss.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC void check_rows(const RowInputs& rows, std::int64_t count, std::int64_t vocabulary, bool needs_labels) {
  const auto fits = [&](std::size_t size) { return size == 0 || size == static_cast<std::size_t>(count); };
  require<ShapeError>(fits(rows.labels.size()) && fits(rows.weights.size()) && fits(rows.behaviour_log_probs.size()),
                      "[head_loss] ", rows.labels.size(), " labels, ", rows.weights.size(), " weights, ",
                      rows.behaviour_log_probs.size(), " behaviour log-probs for ", count, " rows");
  require<ShapeError>(!needs_labels || count == 0 || !rows.labels.empty(),
                      "[head_loss] the loss reads labels and none are given for ", count, " rows");
  for (std::size_t r = 0; r < rows.labels.size(); ++r)
    require<InputError>(
        (rows.labels[r] >= 0 && rows.labels[r] < vocabulary) || (!rows.weights.empty() && rows.weights[r] == 0),
        "[head_loss] row ", r, " has label ", rows.labels[r], ", outside the vocabulary of ", vocabulary);
  for (std::size_t r = 0; r < rows.weights.size(); ++r)
    require<InputError>(rows.weights[r] >= 0 && std::isfinite(rows.weights[r]), "[head_loss] the weight of row ", r,
                        " is negative or not finite");
}

KDLIB_FUNC std::int64_t shared_columns(std::int64_t student, std::int64_t student_real, std::int64_t teacher,
                                       std::int64_t teacher_real) {
  require<ShapeError>(student_real >= 0 && student_real <= student && teacher_real >= 0 && teacher_real <= teacher,
                      "[head_loss] real_vocabulary ", student_real, " of ", student, " (student) or ", teacher_real,
                      " of ", teacher, " (teacher) is out of range");
  if (student_real == 0 && teacher_real == 0) {
    require<ShapeError>(student == teacher, "[head_loss] the student has ", student, " logits and the teacher ",
                        teacher,
                        "; if their tokenizers are the same, set real_vocabulary to its number of ids in both, else "
                        "they cannot be compared");
    return student;
  }
  const std::int64_t a = student_real > 0 ? student_real : teacher_real,
                     b = teacher_real > 0 ? teacher_real : student_real;
  require<ShapeError>(a == b && a <= student && b <= teacher, "[head_loss] the student has ", a, " real ids of ",
                      student, " and the teacher ", b, " of ", teacher, "; both must come from one tokenizer");
  return a;
}

KDLIB_FUNC void check_support_ids(const std::int32_t* ids, std::int64_t count, std::int64_t size,
                                  std::int64_t vocabulary) {
  for (std::int64_t i = 0; i < count * size; ++i)
    require<InputError>(ids[i] >= -1 && ids[i] < vocabulary, "[head_loss] top-k id ", ids[i], " of row ", i / size,
                        " is outside the vocabulary of ", vocabulary, " (-1 marks an absent entry)");
}

}  // namespace detail

KDLIB_FUNC std::int64_t head_loss_chunk(std::int64_t rows, std::int64_t vocabulary, std::int64_t copies,
                                        std::int64_t element_bytes, std::int64_t workspace_bytes) {
  const std::int64_t row_bytes = std::max<std::int64_t>(1, vocabulary * copies * element_bytes);
  const std::int64_t most = std::clamp<std::int64_t>(workspace_bytes / row_bytes, 1, std::max<std::int64_t>(1, rows));
  const std::int64_t chunks = (rows + most - 1) / most;
  return chunks == 0 ? most : (rows + chunks - 1) / chunks;  // equal chunks instead of a ragged last one
}

KDLIB_NAMESPACE_END

#endif
