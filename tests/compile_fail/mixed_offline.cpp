// SPDX-License-Identifier: Apache-2.0
// The two parts of a mix in the wrong order.
// expect: the first argument of Mixed is not a DataSource
#include "kdlib/data/document_dataset.hpp"
#include "kdlib/rollout/mixed.hpp"
#include "kdlib/rollout/on_policy.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = sizeof(kdlib::Mixed<kdlib::DocumentDataset, kdlib::OnPolicy>);
#else
constexpr auto size = sizeof(kdlib::Mixed<kdlib::OnPolicy, kdlib::DocumentDataset>);
#endif
