// SPDX-License-Identifier: Apache-2.0
// Changes to the files of packed checkpoints, for tests of what readers accept and refuse.
#ifndef KDLIB_TESTS_MODEL_PACKED_FILES_HPP
#define KDLIB_TESTS_MODEL_PACKED_FILES_HPP

#include <string>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "support/refusal.hpp"

namespace kdlib_tests {

/// Writes model.safetensors of a folder anew: change(writer, tensor) adds each tensor, or leaves it out. Metadata stay,
/// but for those that edit(key, text) changes.
template <class F, class G>
void rewrite_file(const std::string& folder, F&& change, G&& edit) {
  const std::string path = folder + "/model.safetensors";
  {
    const kdlib::SafetensorsFile before(path);
    kdlib::SafetensorsWriter writer(path + ".new");
    for (const auto& [key, value] : before.metadata()) writer.metadata(key, edit(key, value));
    for (const kdlib::TensorInfo& t : before.tensors()) change(writer, t);
    writer.commit();
  }
  kdlib::rename_path(path + ".new", path);
}
template <class F>
void rewrite_tensors(const std::string& folder, F&& change) {
  rewrite_file(folder, change, [](const std::string&, const std::string& text) { return text; });
}

inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("not there: " + from);
  return text.replace(at, from.size(), to);
}

/// Replaces a text in every quant_state that has it.
inline void rewrite_states(const std::string& folder, const std::string& from, const std::string& to) {
  bool found = false;
  rewrite_tensors(folder, [&](kdlib::SafetensorsWriter& w, const kdlib::TensorInfo& t) {
    const std::string before(reinterpret_cast<const char*>(t.data.data()), t.data.size());
    if (t.name.find(".quant_state.") == std::string::npos || before.find(from) == std::string::npos) return w.add(t);
    const std::string text = replaced(before, from, to);
    found = true;
    w.add_from(t.name, kdlib::DType::u8, kdlib::Shape{static_cast<std::int64_t>(text.size())},
               [text](kdlib::AtomicFile& f) { f.write(text); });
  });
  if (!found) throw std::runtime_error("in no quant_state: " + from);
}

inline void rewrite_config(const std::string& folder, const std::string& from, const std::string& to) {
  kdlib::write_file_atomically(folder + "/config.json", replaced(kdlib::read_file(folder + "/config.json"), from, to));
}

}  // namespace kdlib_tests

#endif
