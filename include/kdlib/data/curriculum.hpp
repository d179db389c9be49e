// SPDX-License-Identifier: Apache-2.0
// Modes of reasoning that a student's own texts are asked for, and how their shares change while it trains.
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

/// Shares of the three modes and texts a prompt, from a share of the training on.
struct CurriculumPhase {
  double begin = 0;                       // tokens trained / tokens of the whole stage, from 0
  std::array<double, 3> shares{0, 1, 0};  // low, medium, high; they add up to 1
  std::int64_t samples = 1;               // texts a prompt
};

/// The phases of a stage, how many texts a step has, and how long they may become.
struct CurriculumSettings {
  std::vector<CurriculumPhase> phases{
      {0, {0.7, 0.3, 0}, 1}, {0.30, {0.2, 0.6, 0.2}, 1}, {0.66, {0.2, 0.6, 0.2}, 2}, {0.70, {0.1, 0.3, 0.6}, 2}};
  std::array<std::int64_t, 3> caps{1024, 2048, 4096};  // tokens of a text, by mode
  std::int64_t rollouts = 64;                          // texts a step; a multiple of every phase's samples
  double tokens = 8e9;                                 // trained tokens of the whole stage
  std::uint64_t seed = 1;
};

/// What a curriculum says at one moment, with the relief that a slow pipeline asked for (`level`).
struct CurriculumPoint {
  double fraction = 0;  // of the stage's tokens
  std::array<double, 3> shares{};
  std::array<std::int64_t, 3> caps{};
  std::int64_t samples = 1, tickets = 1;  // tickets * samples = rollouts
};

/// Rules of the three modes over a stage.
class Curriculum {
 public:
  /// ConfigError: phases that do not begin at 0 and rise, shares that are negative or do not add up to 1, samples that
  /// do not divide the texts of a step, caps below 1.
  explicit Curriculum(CurriculumSettings settings = {});

  /// After `trained` tokens. Level 1 and above: caps * 3/4, not below 256 (or the cap itself); 2 and above: half of
  /// high's share goes to medium.
  CurriculumPoint at(double trained, int level = 0) const;
  /// The mode of ticket n: a number of Rng(seed, curriculum, n) against the cumulated shares.
  ReasoningMode mode(std::int64_t ticket, const std::array<double, 3>& shares) const;
  const CurriculumSettings& settings() const { return settings_; }
  SettingsList describe() const;

 private:
  CurriculumSettings settings_;
};

/// When a stage should ask for shorter texts: the share of time that its trainer waits for them.
class BackPressure {
 public:
  /// Adds a step; answers +1, -1 or 0, the change of the level. Over 20 steps more than a fifth of waiting raises the
  /// level (at most 3), then 20 steps rest; over 40 steps less than a twentieth lowers it.
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
