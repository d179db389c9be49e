// SPDX-License-Identifier: Apache-2.0
// The numbers of a run as event files of TensorBoard.
#ifndef KDLIB_TRAIN_TENSORBOARD_HPP
#define KDLIB_TRAIN_TENSORBOARD_HPP

#include <cstdint>
#include <string>
#include <string_view>

#include "kdlib/io/atomic_file.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// CRC-32C (Castagnoli), as TensorBoard's files check their records.
std::uint32_t crc32c(std::string_view bytes);
}  // namespace detail

/// A file of TensorBoard's events in `folder`: scalars of one step make one event, whose tags are the metrics' names.
/// Each object writes a file of its own, events.out.tfevents.<seconds>.<process>.kdlib, which TensorBoard reads
/// together with the older ones. Source: tensorboard/summary/writer/record_writer.py and the messages Event, Summary
/// and SessionLog of tensorboard/compat/proto. A metric sink, beside JsonLines for example.
class TensorBoardEvents {
 public:
  /// Makes the folder. `seconds`: the time of all events since 1970 (0: each event has the time at which it came).
  /// IoError where the folder or the file is refused.
  explicit TensorBoardEvents(const std::string& folder, double seconds = 0);

  void scalar(std::string_view name, std::int64_t step, double value);
  void flush();

  /// What the folder's older files hold behind `step` (-1: all) is out of date: TensorBoard drops it.
  void rewind(std::int64_t step);

  /// The time of the steps that follow, in seconds since 1970; 0: that at which they come.
  void set_time(double seconds);

  const std::string& path() const { return file_.path(); }

 private:
  void end_event();
  void write_event(std::int64_t step, int field, std::string_view message);

  AppendFile file_;
  std::string summary_;
  std::int64_t step_ = -1;
  double seconds_ = 0;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/train/tensorboard_inl.hpp"
#endif

#endif
