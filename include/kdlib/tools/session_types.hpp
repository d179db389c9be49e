// SPDX-License-Identifier: Apache-2.0
// Turns --device and --dtype into types. A program lists the combinations that it offers, and only these are compiled.
#ifndef KDLIB_TOOLS_SESSION_TYPES_HPP
#define KDLIB_TOOLS_SESSION_TYPES_HPP

#include <string>
#include <type_traits>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/fwd.hpp"
#include "kdlib/tensor/device.hpp"

KDLIB_NAMESPACE_BEGIN

/// A combination of a device and a scalar type.
template <class D, class T>
struct SessionType {
  using device_type = D;
  using scalar_type = T;

  /// "cpu" or "cuda"
  static constexpr const char* device() { return D::name; }
  /// "float32" or "bfloat16"
  static constexpr const char* dtype() { return dtype_text<T>(); }
};

/// A list of SessionTypes.
template <class... Types>
struct SessionTypes {
  /// Calls f.operator()<Types...>().
  template <class F>
  static auto with(F&& f) {
    return f.template operator()<Types...>();
  }
};

/// The combinations of this project's programs. KDLIB_PROGRAMS_CUDA is defined if the programs are linked with the CUDA
/// backend, either the real one (-DKDLIB_CUDA=ON) or the emulated one for tests.
#if defined(KDLIB_PROGRAMS_CUDA)
using ProgramTypes =
    SessionTypes<SessionType<Cpu, float>, SessionType<Cpu, bf16>, SessionType<Cuda, bf16>, SessionType<Cuda, float>>;
using PlainProgramTypes = SessionTypes<SessionType<Cpu, float>, SessionType<Cuda, bf16>, SessionType<Cuda, float>>;
#else
using ProgramTypes = SessionTypes<SessionType<Cpu, float>, SessionType<Cpu, bf16>>;
/// The combinations of programs that are compiled for a single scalar type on the CPU.
using PlainProgramTypes = SessionTypes<SessionType<Cpu, float>>;
#endif

namespace detail {
/// Returns a sentence that says what to do about --device NAME if the program lacks this device. `devices` are the
/// devices that the program has.
std::string missing_device_text(const std::string& program, const std::string& device, const std::string& devices);
/// Throws BackendError if the device does not work on this machine. If `plans` is true and the device can count memory,
/// no device is needed and nothing is checked.
template <class D>
void require_ready(bool plans) {
  if (plans && CountsMemory<D>) return;
  if constexpr (requires { Memory<D>::require_ready(); }) Memory<D>::require_ready();
}
}  // namespace detail

/// Calls f(SessionType<D, T>{}) for the type in the list that `device` and `dtype` name, and returns the result. The
/// dtype auto takes the first type of the device. SettingsError: the list has no such type; the message names those
/// that it has. BackendError: the device does not work on this machine (not checked for a plan, see require_ready).
template <class... Types, class F>
int with_session_type(const std::string& program, const std::string& device, const std::string& dtype, F&& f,
                      bool plans = false) {
  std::string devices, dtypes;
  int status = -1;
  const auto consider = [&](auto type) {
    const std::string name = type.device();
    if (devices.find(name) == std::string::npos) devices += (devices.empty() ? "" : ", ") + name;
    if (name != device) return false;
    dtypes += concat(dtypes.empty() ? "" : ", ", type.dtype());
    if (dtype != "auto" && dtype != type.dtype()) return false;
    detail::require_ready<typename decltype(type)::device_type>(plans);
    status = f(type);
    return true;
  };
  if ((consider(Types{}) || ...)) return status;
  require<SettingsError>(!dtypes.empty(), detail::missing_device_text(program, device, devices));
  fail<SettingsError>("[", program, "] --dtype ", dtype, " is not there on --device ", device, ": this program has ",
                      dtypes, "; give one of these, or auto");
}

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/session_types_inl.hpp"
#endif

#endif
