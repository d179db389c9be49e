// SPDX-License-Identifier: Apache-2.0
// A mix whose second part is text that exists.
// expect: the second argument of Mixed is not a RolloutSource of this student
#include "kdlib/backend/cpu.hpp"
#include "kdlib/data/document_dataset.hpp"
#include "kdlib/rollout/mixed.hpp"
#include "kdlib/rollout/on_policy.hpp"
#include "support/toy_model.hpp"

using Model = kdlib_tests::ToyModel<float>;
#if defined(KDLIB_CORRECTED)
auto next(kdlib::Mixed<kdlib::DocumentDataset, kdlib::OnPolicy>& source, Model& student) {
  return source.next(student);
}
#else
auto next(kdlib::Mixed<kdlib::DocumentDataset, kdlib::DocumentDataset>& source, Model& student) {
  return source.next(student);
}
#endif
