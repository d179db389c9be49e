// SPDX-License-Identifier: Apache-2.0
// The folder for the models that --random-weights makes.
#ifndef KDLIB_TOOLS_RANDOM_MODELS_HPP
#define KDLIB_TOOLS_RANDOM_MODELS_HPP

#include <string>

#include "kdlib/core/settings_error.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Prepares `folder` for random models. `made` describes the models and is stored in the file made_with of the folder.
/// `again`: true removes the models of an earlier run. SettingsError: the folder exists without this file, or holds
/// models with another description. `kind` is the part of the message that names the differing settings and what to do.
void ready_random_models(const std::string& tag, const std::string& folder, const std::string& made,
                         const std::string& kind, bool again = false);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/random_models_inl.hpp"
#endif

#endif
