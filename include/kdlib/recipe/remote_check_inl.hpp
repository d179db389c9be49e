// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/settings.hpp: a teacher on other machines.
#ifndef KDLIB_RECIPE_REMOTE_CHECK_INL_HPP
#define KDLIB_RECIPE_REMOTE_CHECK_INL_HPP

#include <algorithm>

#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

inline std::vector<std::string> RecipeModels::remote_urls() const {
  std::vector<std::string> urls;
  for (std::size_t begin = 0; is_remote() && begin <= teacher.size();) {
    const std::size_t end = std::min(teacher.find(',', begin), teacher.size());
    urls.push_back(teacher.substr(begin, end - begin));
    begin = end + 1;
  }
  return urls;
}

namespace detail {

/// From servers: what only a teacher in memory could do is refused. Which losses they can serve is known when they have
/// answered.
inline void check_remote(const RecipeSettings& s) {
  const auto needs = [](bool there, const auto&... what) {
    require<ConfigError>(there, "[distil] the teacher is on another machine; ", what...);
  };
  needs(!s.models.student.empty(), "--student MODEL is needed");
  needs(!s.models.cached(), "--cache stands for a teacher: leave out one of them");
  needs(s.models.teacher_adapter.empty(), "--teacher-adapter belongs to serve --teacher");
  needs(s.text.lambda == 1 || !s.text.data.empty(),
        "--data FILE is needed, or --lambda 1: servers score text, they do not write it");
  needs(s.models.cache.mass != TopKMass::sampled, "--mass sampled belongs to caches of drawn tokens");
  check_remote_settings({.urls = s.models.remote_urls(), .in_flight = s.models.remote.in_flight});
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
