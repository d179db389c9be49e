// SPDX-License-Identifier: Apache-2.0
// The folder of the models that --random-weights makes.
#ifndef KDLIB_TOOLS_RANDOM_MODELS_HPP
#define KDLIB_TOOLS_RANDOM_MODELS_HPP

#include <string>

#include "kdlib/core/settings_error.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Readies `folder` for models of which `made` says what they are, in its file made_with; `again` removes those of a
/// run before. SettingsError: a folder that is there without that file, or models of another `kind`, with what to do.
void ready_random_models(const std::string& tag, const std::string& folder, const std::string& made,
                         const std::string& kind, bool again = false);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/random_models_inl.hpp"
#endif

#endif
