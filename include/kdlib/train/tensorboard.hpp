// SPDX-License-Identifier: Apache-2.0
// Writes the numbers of a run as event files of TensorBoard.
#ifndef KDLIB_TRAIN_TENSORBOARD_HPP
#define KDLIB_TRAIN_TENSORBOARD_HPP

#include <cstdint>
#include <string>
#include <string_view>

#include "kdlib/io/atomic_file.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// CRC-32C (Castagnoli), the checksum of the records in TensorBoard's files.
std::uint32_t crc32c(std::string_view bytes);
}  // namespace detail

/// A metric sink that writes a file of TensorBoard's events into `folder`; programs may use it beside JsonLines. The
/// scalars of one step make one event, whose tags are the names of the metrics. Each object writes a new file,
/// events.out.tfevents.<seconds>.<process>.kdlib, which TensorBoard reads together with the older files. Source:
/// tensorboard/summary/writer/record_writer.py and the messages Event, Summary and SessionLog of
/// tensorboard/compat/proto.
class TensorBoardEvents {
 public:
  /// Makes the folder and the file. `seconds` (since 1970) is the time of all events; 0 gives each event the time at
  /// which it was written. IoError: the folder or the file cannot be made.
  explicit TensorBoardEvents(const std::string& folder, double seconds = 0);

  void scalar(std::string_view name, std::int64_t step, double value);
  void flush();

  /// Marks everything after `step` (-1: everything) in the older files of the folder as out of date, so that
  /// TensorBoard drops it.
  void rewind(std::int64_t step);

  /// Sets the time of the events that follow, in seconds since 1970; 0 gives each event the time at which it is
  /// written.
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
