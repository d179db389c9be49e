// SPDX-License-Identifier: Apache-2.0
// The words of the enumerations of recipe/settings.hpp.
#ifndef KDLIB_RECIPE_SETTINGS_WORDS_INL_HPP
#define KDLIB_RECIPE_SETTINGS_WORDS_INL_HPP

#include <cstddef>
#include <span>
#include <string>

#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// The words of an enumeration in the order of its values.
template <class E>
struct RecipeWords;
template <>
struct RecipeWords<RecipeTrains> {
  static constexpr const char* name = "train";
  static constexpr const char* list[] = {"lora", "qat_lora", "all", "scales"};
};
template <>
struct RecipeWords<RecipeAdapterStart> {
  static constexpr const char* name = "lora-init";
  static constexpr const char* list[] = {"auto", "zero", "compensate"};
};
template <>
struct RecipeWords<RecipeSchedule> {
  static constexpr const char* name = "schedule";
  static constexpr const char* list[] = {"constant", "linear", "cosine"};
};
template <>
struct RecipeWords<RecipeResume> {
  static constexpr const char* name = "resume";
  static constexpr const char* list[] = {"auto", "no"};
};
template <>
struct RecipeWords<TooLong> {
  static constexpr const char* name = "too-long";
  static constexpr const char* list[] = {"refuse", "cut", "drop"};
};
template <>
struct RecipeWords<SaveRule> {
  static constexpr const char* name = "save";
  static constexpr const char* list[] = {"last", "best", "all"};
};
template <>
struct RecipeWords<StraightThrough> {
  static constexpr const char* name = "straight-through";
  static constexpr const char* list[] = {"identity", "clipped"};
};

template <>
struct RecipeWords<Reduction> {
  static constexpr const char* name = "reduce";
  static constexpr const char* list[] = {"auto", "tree", "fast"};
};
template <>
struct RecipeWords<TopKMass> {
  static constexpr const char* name = "mass";
  static constexpr const char* list[] = {"tail", "renormalised", "raw", "sampled"};
};

template <class E>
const char* word_of(E value) {
  return RecipeWords<E>::list[static_cast<std::size_t>(value)];
}

/// The place of `word` among the known ones. ConfigError names the setting and the words.
std::size_t place_of_word(const char* name, std::span<const char* const> known, const std::string& word);

}  // namespace detail

template <class E>
E recipe_value(const std::string& word) {
  return static_cast<E>(detail::place_of_word(detail::RecipeWords<E>::name, detail::RecipeWords<E>::list, word));
}

KDLIB_NAMESPACE_END

#endif
