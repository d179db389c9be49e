// SPDX-License-Identifier: Apache-2.0
// How long a step takes when students and teachers are divided among machines and a network lies between: from counts
// and rates, before anything is started.
#ifndef KDLIB_TOOLS_SCALE_PLAN_HPP
#define KDLIB_TOOLS_SCALE_PLAN_HPP

#include <string>

#include "kdlib/core/settings_error.hpp"

KDLIB_NAMESPACE_BEGIN

/// What decides a step's time. Rates are those of one rank.
struct ScaleInputs {
  double ranks = 1, teacher_ranks = 1;  // W students, N teachers; >= 1
  bool teacher_apart = true;            // false: each student has the teacher, whose passes take their turn there
  double tokens = 0, rows = 0;          // of a step over all ranks: run through the models; marked by the teacher
  double written = 0;                   // of the rows: tokens that the student writes itself
  double teacher_parameters = 0;        // active ones
  double student_parameters = 0;        // active ones
  double trained = 0;                   // numbers whose gradients are added
  bool shard_moments = false;           // among the ranks
  bool adapter = true;                  // the base is frozen: 4 operations a parameter and token, else 6
  double teacher_flops = 0, student_flops = 0;  // a second, > 0
  double write_rate = 0;                        // tokens a second; 0: nothing is written
  double row_bytes = 0;                         // of the teacher's signal on the wire; 0: it is on the same machine
  double link = 0;                              // bytes a second, > 0 where something goes over it
  double latency = 0;                           // seconds, >= 0
  double slices = 1;                            // micro-batches of a rank in a step, >= 1
};

/// Seconds of a step and what follows from them.
struct ScalePlan {
  double write = 0, score = 0, wire = 0, train = 0, reduce = 0;
  double step = 0;
  std::string bottleneck{};       // of these five
  double teacher_idle = 0;        // share of the step in which the teachers wait
  double student_idle = 0;        // share in which the students wait for the signal
  double balanced_teachers = 0;   // ranks of the teacher at which scoring takes no longer than the students' part
  double balanced_row_bytes = 0;  // payload at which the wire takes no longer than scoring; 0: no wire
  double local_steps = 1;         // steps between reductions that bring them below a tenth of the time
};

/// t_write = written / (rate W); t_score = 2 P_t tokens / (F_t N); t_wire = rows b / B + latency;
/// t_train = (6, adapter: 4) P_s tokens / (F_s W); t_reduce = 2 (W - 1) / W 4 G / B + 2 latency, 0 for one rank.
/// The three first overlap, but for the first of m slices: max (1 + 1 / m). Without a teacher apart scoring is divided
/// among the W students and overlaps with nothing. SettingsError for numbers out of range.
ScalePlan plan_scale(const ScaleInputs& in);

/// Seconds of a word such as 30ms or 0.5s. SettingsError: another form.
double latency_seconds(const std::string& word);

/// Bytes a second of a word such as 100Mbit, 10Gbit or 1GB. SettingsError: another form.
double link_bytes(const std::string& word);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/scale_plan_inl.hpp"
#endif

#endif
