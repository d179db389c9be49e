// SPDX-License-Identifier: Apache-2.0
// Templates of task_evaluation.hpp.
#ifndef KDLIB_TOOLS_TASK_EVALUATION_INL_HPP
#define KDLIB_TOOLS_TASK_EVALUATION_INL_HPP

#include <span>

#include "kdlib/tools/task_evaluation.hpp"

KDLIB_NAMESPACE_BEGIN

template <class Model>
std::vector<std::pair<std::string, double>> TaskEvaluation::operator()(Model& model) const {
  std::vector<std::pair<std::string, double>> out;
  for (const Questions& questions : list_) {
    const auto values = log_likelihoods(model, std::span<const std::vector<ScoredText>>(questions.texts), {});
    ChoiceSummary summary(questions.task);
    for (std::size_t i = 0; i < values.size(); ++i) summary.add(i, values[i]);
    out.emplace_back(questions.task.name + "/acc", summary.acc().mean);
    if (questions.task.normalised) out.emplace_back(questions.task.name + "/acc_norm", summary.acc_norm().mean);
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
