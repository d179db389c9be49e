// SPDX-License-Identifier: Apache-2.0
// Bodies of curriculum.hpp.
#ifndef KDLIB_DATA_CURRICULUM_INL_HPP
#define KDLIB_DATA_CURRICULUM_INL_HPP

#include <algorithm>
#include <cmath>
#include <utility>

#include "kdlib/core/error.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/data/curriculum.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC Curriculum::Curriculum(CurriculumSettings settings) : settings_(std::move(settings)) {
  const std::vector<CurriculumPhase>& phases = settings_.phases;
  require<ConfigError>(!phases.empty() && phases.front().begin == 0, "[curriculum] the first phase begins at ",
                       phases.empty() ? 0.0 : phases.front().begin, " of ", phases.size(),
                       " phases; it must begin at 0");
  for (std::size_t i = 0; i < phases.size(); ++i) {
    const auto& [begin, shares, samples] = phases[i];
    require<ConfigError>(i == 0 || begin > phases[i - 1].begin, "[curriculum] phase ", i, " begins at ", begin,
                         " and the one before at ", phases[i == 0 ? 0 : i - 1].begin, "; they must rise");
    const double sum = shares[0] + shares[1] + shares[2];
    require<ConfigError>(*std::min_element(shares.begin(), shares.end()) >= 0 && std::abs(sum - 1) < 1e-9,
                         "[curriculum] the shares of phase ", i, " are ", shares[0], ", ", shares[1], " and ",
                         shares[2], "; they must add up to 1");
    require<ConfigError>(samples >= 1 && settings_.rollouts >= 1 && settings_.rollouts % samples == 0, "[curriculum] ",
                         settings_.rollouts, " texts a step cannot be ", samples, " texts of each prompt");
  }
  require<ConfigError>(*std::min_element(settings_.caps.begin(), settings_.caps.end()) >= 1,
                       "[curriculum] the caps are ", settings_.caps[0], ", ", settings_.caps[1], " and ",
                       settings_.caps[2], " tokens; each must be 1 or more");
  require<ConfigError>(settings_.tokens > 0, "[curriculum] a stage of ", settings_.tokens, " tokens");
}

KDLIB_FUNC CurriculumPoint Curriculum::at(double trained, int level) const {
  CurriculumPoint point;
  point.fraction = trained / settings_.tokens;
  for (const CurriculumPhase& phase : settings_.phases) {
    if (phase.begin > point.fraction) break;
    point.shares = phase.shares;
    point.samples = phase.samples;
  }
  point.tickets = settings_.rollouts / point.samples;
  point.caps = settings_.caps;
  if (level >= 1)
    for (std::int64_t& cap : point.caps) cap = std::max(cap * 3 / 4, std::min<std::int64_t>(cap, 256));
  if (level >= 2) {
    point.shares[1] += point.shares[2] / 2;
    point.shares[2] /= 2;
  }
  return point;
}

KDLIB_FUNC ReasoningMode Curriculum::mode(std::int64_t ticket, const std::array<double, 3>& shares) const {
  const double u = Rng(settings_.seed, RngPurpose::curriculum, static_cast<std::uint32_t>(ticket)).uniform(0);
  return u < shares[0] ? ReasoningMode::low : u < shares[0] + shares[1] ? ReasoningMode::medium : ReasoningMode::high;
}

KDLIB_FUNC SettingsList Curriculum::describe() const {
  SettingsList list;
  for (std::size_t i = 0; i < settings_.phases.size(); ++i) {
    const auto& [begin, shares, samples] = settings_.phases[i];
    list.emplace_back(concat("curriculum.phase", i),
                      concat(setting_text(begin), ": ", setting_text(shares[0]), " ", setting_text(shares[1]), " ",
                             setting_text(shares[2]), ", ", samples));
  }
  list.emplace_back("curriculum.caps", concat(settings_.caps[0], " ", settings_.caps[1], " ", settings_.caps[2]));
  list.emplace_back("curriculum.rollouts", setting_text(settings_.rollouts));
  list.emplace_back("curriculum.tokens", setting_text(settings_.tokens));
  list.emplace_back("curriculum.seed", setting_text(settings_.seed));
  return list;
}

KDLIB_FUNC double BackPressure::waiting(std::size_t steps) const {
  if (steps_.size() < steps) return -1;
  double wait = 0, all = 0;
  for (std::size_t i = steps_.size() - steps; i < steps_.size(); ++i) {
    wait += steps_[i][0];
    all += steps_[i][0] + steps_[i][1];
  }
  return all > 0 ? wait / all : 0;
}

KDLIB_FUNC void BackPressure::set_level(int level) {
  require<ConfigError>(level >= 0 && level <= 3, "[back-pressure] level ", level, "; it is 0 to 3");
  level_ = level;
}

KDLIB_FUNC int BackPressure::add_step(double wait_seconds, double work_seconds) {
  steps_.push_back({wait_seconds, work_seconds});
  if (steps_.size() > 40) steps_.erase(steps_.begin());
  if (rest_ > 0) {
    --rest_;
    return 0;
  }
  const double recent = waiting(20), long_since = waiting(40);
  int change = 0;
  if (recent > 0.2 && level_ < 3) change = 1;
  else if (long_since >= 0 && long_since < 0.05 && level_ > 0) change = -1;
  if (change == 0) return 0;
  level_ += change;
  if (change > 0) rest_ = 20;
  else steps_.clear();
  return change;
}

KDLIB_NAMESPACE_END

#endif
