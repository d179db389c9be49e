// SPDX-License-Identifier: Apache-2.0
// The one place where --device and --dtype become types: a program lists the combinations that it offers, and nothing
// else is compiled.
#ifndef KDLIB_TOOLS_SESSION_TYPES_HPP
#define KDLIB_TOOLS_SESSION_TYPES_HPP

#include <string>
#include <type_traits>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/fwd.hpp"

KDLIB_NAMESPACE_BEGIN

/// A device and a scalar type that a program runs with.
template <class D, class T>
struct SessionType {
  using device_type = D;
  using scalar_type = T;

  /// "cpu", "cuda"
  static constexpr const char* device() { return D::name; }
  /// "float32", "bfloat16"
  static constexpr const char* dtype() { return dtype_text<T>(); }
};

/// Calls f(SessionType<D, T>{}) for the type of the list that the words name; auto takes the device's first.
/// SettingsError says what the program has instead.
template <class... Types, class F>
int with_session_type(const std::string& program, const std::string& device, const std::string& dtype, F&& f) {
  std::string devices, dtypes;
  int status = -1;
  const auto consider = [&](auto type) {
    const std::string name = type.device();
    if (devices.find(name) == std::string::npos) devices += (devices.empty() ? "" : ", ") + name;
    if (name != device) return false;
    dtypes += concat(dtypes.empty() ? "" : ", ", type.dtype());
    if (dtype != "auto" && dtype != type.dtype()) return false;
    status = f(type);
    return true;
  };
  if ((consider(Types{}) || ...)) return status;
  require<SettingsError>(!dtypes.empty(), "[", program, "] --device ", device,
                         " is for --dry-run alone: this program trains whole models on ", devices);
  fail<SettingsError>("[", program, "] --dtype ", dtype, " is not there on --device ", device, ": this program has ",
                      dtypes, "; give one of these, or auto");
}

KDLIB_NAMESPACE_END

#endif
