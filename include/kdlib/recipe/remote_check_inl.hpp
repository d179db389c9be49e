// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/settings.hpp: teachers on other machines, and several teachers.
#ifndef KDLIB_RECIPE_REMOTE_CHECK_INL_HPP
#define KDLIB_RECIPE_REMOTE_CHECK_INL_HPP

#include <algorithm>

#include "kdlib/io/utf8.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::vector<RecipeNamedTeacher> RecipeModels::named_teachers() const {
  std::vector<RecipeNamedTeacher> out;
  for (const std::string& text : teachers) {
    const std::size_t equals = text.find('=');
    const std::string name = text.substr(0, std::min(equals, text.size()));
    const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
             c == '-';
    });
    require<ConfigError>(equals != std::string::npos && plain && equals + 1 < text.size(), "[distil] --teachers is '",
                         printable(text),
                         "'; it must be NAME=MODEL with a name of letters, digits, '.', '_' and '-', and a model "
                         "directory, GGUF file, folder of a cache or URL[,URL...]");
    for (const RecipeNamedTeacher& other : out)
      require<ConfigError>(other.name != name, "[distil] --teachers names ", name, " twice: ", other.place, " and ",
                           text.substr(equals + 1));
    out.push_back({name, text.substr(equals + 1)});
  }
  return out;
}

namespace detail {

/// From servers: what only a teacher in memory could do is refused. Which losses they can serve is known when they have
/// answered.
KDLIB_FUNC void check_remote(const RecipeSettings& s) {
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

/// Ranks that hold the teacher mark text, they do not write it.
KDLIB_FUNC void check_on_ranks(const RecipeSettings& s) {
  const auto needs = [](bool there, const auto&... what) {
    require<ConfigError>(there, "[distil] --teacher-ranks holds the teacher on ranks of its own; ", what...);
  };
  needs(!s.models.teacher.empty() && !s.models.is_remote() && !s.models.cached() && !s.models.by_row(),
        "--teacher MODEL is needed, a directory or GGUF file, and no --cache or --teachers");
  needs(s.text.lambda == 1 || !s.text.data.empty(),
        "--data FILE is needed, or --lambda 1: those ranks mark text, they do not write it");
}

/// Several teachers mark text; none of them writes it.
KDLIB_FUNC void check_named(const RecipeSettings& s) {
  const RecipeModels& m = s.models;
  const auto needs = [](bool there, const auto&... what) {
    require<ConfigError>(there, "[distil] --teachers gives each line a teacher of its own; ", what...);
  };
  needs(m.teacher.empty(), "--teacher names one for all: write --teachers NAME=", m.teacher,
        " and --teacher-otherwise NAME instead");
  needs(!m.student.empty(), "--student MODEL is needed");
  needs(!m.cached(), "--cache stands for one teacher of all text: write --teachers NAME=", m.cache.folder);
  needs(m.teacher_adapter.empty(), "--teacher-adapter belongs to --teacher: merge it first (convert)");
  needs(s.text.lambda == 1 || !s.text.data.empty(),
        "--data FILE is needed, or --lambda 1: several teachers mark text, they do not write it");
  needs(m.cache.mass != TopKMass::sampled, "--mass sampled belongs to caches of drawn tokens");
  bool known = m.otherwise.empty();
  std::string names;
  for (const RecipeNamedTeacher& teacher : m.named_teachers()) {
    known = known || teacher.name == m.otherwise;
    names += (names.empty() ? "" : ", ") + teacher.name;
    if (teacher.is_remote())
      check_remote_settings({.urls = split_urls(teacher.place), .in_flight = m.remote.in_flight});
  }
  needs(known, "--teacher-otherwise is ", m.otherwise, ", which is none of ", names);
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
