// SPDX-License-Identifier: Apache-2.0
// What programs read beside the weights of MODEL, and how they keep the weights.
#ifndef KDLIB_TOOLS_MODEL_FILES_HPP
#define KDLIB_TOOLS_MODEL_FILES_HPP

#include <string>

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/teacher/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN

/// --weights file|memory of programs that train nothing; an adapter that is merged on reading needs matrices in memory.
inline WeightStorage weight_storage(const std::string& weights, bool merges) {
  return weights == "memory" || merges ? WeightStorage::decoded : WeightStorage::in_file;
}

KDLIB_NAMESPACE_END

#endif
