// SPDX-License-Identifier: Apache-2.0
// The modes of reasoning that a student is asked for when it writes its own texts, and how the shares of the modes
// change during training.
#ifndef KDLIB_DATA_CURRICULUM_HPP
#define KDLIB_DATA_CURRICULUM_HPP

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/core/fields.hpp"

KDLIB_NAMESPACE_BEGIN

/// How much a model is asked to think before it answers.
enum class ReasoningMode : std::uint8_t { low, medium, high };
constexpr std::array<const char*, 3> enum_names(ReasoningMode) { return {"low", "medium", "high"}; }

/// The shares of the three modes and the number of texts for each prompt, from a point of the training on.
struct CurriculumPhase {
  double begin = 0;                       // start: tokens trained / tokens of the whole stage, >= 0
  std::array<double, 3> shares{0, 1, 0};  // low, medium, high; they add up to 1
  std::int64_t samples = 1;               // texts for each prompt, >= 1
};

/// The phases of a stage, the number of texts in a step, and the largest length of a text.
struct CurriculumSettings {
  std::vector<CurriculumPhase> phases{
      {0, {0.7, 0.3, 0}, 1}, {0.30, {0.2, 0.6, 0.2}, 1}, {0.66, {0.2, 0.6, 0.2}, 2}, {0.70, {0.1, 0.3, 0.6}, 2}};
  std::array<std::int64_t, 3> caps{1024, 2048, 4096};  // largest number of tokens of a text, by mode
  std::int64_t rollouts = 64;                          // texts of a step; a multiple of every phase's samples
  double tokens = 8e9;                                 // trained tokens of the whole stage, > 0
  std::uint64_t seed = 1;
};

/// The values of a curriculum at one moment, after the relief of the level that a slow pipeline asked for
/// (BackPressure).
struct CurriculumPoint {
  double fraction = 0;  // trained share of the stage's tokens
  std::array<double, 3> shares{};
  std::array<std::int64_t, 3> caps{};
  std::int64_t samples = 1, tickets = 1;  // tickets are the prompts of a step: tickets * samples = rollouts
};

/// The shares, limits and modes of texts over a stage.
class Curriculum {
 public:
  /// ConfigError: the phases do not begin at 0 and rise, shares are negative or do not add up to 1, samples do not
  /// divide the texts of a step, a cap is below 1, or the stage has no tokens.
  explicit Curriculum(CurriculumSettings settings = {});

  /// Returns the values after `trained` tokens. From level 1 on, caps are multiplied by 3/4, but not reduced below 256.
  /// From level 2 on, half of the share of high goes to medium.
  CurriculumPoint at(double trained, int level = 0) const;
  /// Returns the mode of a ticket (a prompt of the stage, counted from 0): the uniform number of Rng(seed, curriculum,
  /// ticket) is compared with the cumulated shares.
  ReasoningMode mode(std::int64_t ticket, const std::array<double, 3>& shares) const;
  const CurriculumSettings& settings() const { return settings_; }
  SettingsList describe() const;

 private:
  CurriculumSettings settings_;
};

/// Decides when a stage should ask for shorter texts, from the share of time that the trainer waits for texts.
class BackPressure {
 public:
  /// Adds the times of a step and returns the change of the level: +1, -1 or 0. If the trainer waited for more than a
  /// fifth of the last 20 steps, the level rises (to at most 3) and then stays for 20 steps. If the trainer waited for
  /// less than a twentieth of the last 40 steps, the level falls (to at least 0) and the counting of steps starts
  /// again.
  int add_step(double wait_seconds, double work_seconds);
  int level() const { return level_; }
  void set_level(int level);

 private:
  double waiting(std::size_t steps) const;
  std::vector<std::array<double, 2>> steps_;
  int level_ = 0, rest_ = 0;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/curriculum_inl.hpp"
#endif

#endif
