// SPDX-License-Identifier: Apache-2.0
// Bodies of checkpoint.hpp.
#ifndef KDLIB_TRAIN_CHECKPOINT_INL_HPP
#define KDLIB_TRAIN_CHECKPOINT_INL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/train/checkpoint.hpp"

KDLIB_NAMESPACE_BEGIN

template <class Extra>
void Directory::save(const TrainState& state, Extra&& extra) {
  try {
    const std::string partial = begin_save(state);
    extra(partial);
    finish_save(state, partial);
  } catch (...) {
    try {
      remove_partial();  // gives a full disk its space back
    } catch (const Error&) {
      // the first failure is the one to report
    }
    throw;
  }
}

template <class Extra>
void Directory::save_best(const TrainState& state, Extra&& extra) {
  const std::string folder = begin_best();
  extra(folder);
  finish_best(state, folder);
}

KDLIB_NAMESPACE_END

#endif
