// SPDX-License-Identifier: Apache-2.0
// Estimates the time of a step if students and teachers are divided among machines with a network between them. The
// estimate uses only counts and rates, before anything is started.
#ifndef KDLIB_TOOLS_SCALE_PLAN_HPP
#define KDLIB_TOOLS_SCALE_PLAN_HPP

#include <string>

#include "kdlib/core/settings_error.hpp"

KDLIB_NAMESPACE_BEGIN

/// The values that decide the time of a step. Rates are those of one rank.
struct ScaleInputs {
  double ranks = 1, teacher_ranks = 1;  // W ranks of students and N ranks of teachers, each >= 1
  bool teacher_apart = true;            // false: each student runs the teacher itself, before its own work
  double tokens = 0, rows = 0;          // of a step over all ranks: run through the models; marked by the teacher
  double written = 0;                   // tokens in a step that the student writes itself
  double teacher_parameters = 0;        // active parameters
  double student_parameters = 0;        // active parameters
  double trained = 0;                   // G: numbers whose gradients are added over the ranks
  bool shard_moments = false;           // true: the moments are divided among the ranks
  bool adapter = true;                  // true: the base is frozen; 4 operations for each parameter and token, else 6
  double teacher_flops = 0, student_flops = 0;  // operations in a second, > 0
  double write_rate = 0;                        // tokens in a second; 0: the student writes nothing
  double row_bytes = 0;  // b: bytes that are sent for one row; 0: the teacher is on the same machine
  double link = 0;       // B: bytes in a second, > 0 if something is sent
  double latency = 0;    // seconds, >= 0
  double slices = 1;     // m: micro-batches of a rank in a step, >= 1
};

/// The seconds of the parts of a step, and conclusions from these.
struct ScalePlan {
  double write = 0, score = 0, wire = 0, train = 0, reduce = 0;
  double step = 0;
  std::string bottleneck{};       // name of the largest of the five parts
  double teacher_idle = 0;        // share of the step in which the teachers wait, 0 to 1
  double student_idle = 0;        // share of the step in which the students wait for the signal, 0 to 1
  double balanced_teachers = 0;   // number of teacher ranks with which scoring takes no longer than the students' part
  double balanced_row_bytes = 0;  // bytes of a row with which sending takes no longer than scoring; 0: nothing is sent
  double local_steps = 1;         // steps between two reductions with which reductions take at most a tenth of the time
};

/// t_write = written / (rate W); t_score = 2 P_t tokens / (F_t N); t_wire = rows b / B + latency;
/// t_train = (6, adapter: 4) P_s tokens / (F_s W); t_reduce = 2 (W - 1) / W 4 G / B + 2 latency, 0 for one rank.
/// P_t and P_s are the active parameters of teacher and student, F_t and F_s their operations in a second. The first
/// three parts overlap, except for the first of the m micro-batches: together they take max(t_write, t_score, t_wire)
/// (1 + 1 / m). If the teacher is not apart, scoring is divided among the W students and overlaps with nothing.
/// SettingsError: a number is out of its range.
ScalePlan plan_scale(const ScaleInputs& in);

/// Returns the seconds of a text such as 30ms or 0.5s. SettingsError: the text has another form.
double latency_seconds(const std::string& word);

/// Returns the bytes in a second of a text such as 100Mbit, 10Gbit or 1GB. SettingsError: the text has another form.
double link_bytes(const std::string& word);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/scale_plan_inl.hpp"
#endif

#endif
