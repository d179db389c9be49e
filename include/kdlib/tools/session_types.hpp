// SPDX-License-Identifier: Apache-2.0
// The one place where --device and --dtype become types: a program lists the combinations that it offers, and nothing
// else is compiled.
#ifndef KDLIB_TOOLS_SESSION_TYPES_HPP
#define KDLIB_TOOLS_SESSION_TYPES_HPP

#include <string>
#include <type_traits>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/fwd.hpp"
#include "kdlib/tensor/device.hpp"

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

/// A list of them.
template <class... Types>
struct SessionTypes {
  /// f.operator()<Types...>()
  template <class F>
  static auto with(F&& f) {
    return f.template operator()<Types...>();
  }
};

/// What this project's programs run with. KDLIB_PROGRAMS_CUDA is defined where they are linked with the CUDA backend,
/// the real one (-DKDLIB_CUDA=ON) or the emulated one of tests.
#if defined(KDLIB_PROGRAMS_CUDA)
using ProgramTypes =
    SessionTypes<SessionType<Cpu, float>, SessionType<Cpu, bf16>, SessionType<Cuda, bf16>, SessionType<Cuda, float>>;
using PlainProgramTypes = SessionTypes<SessionType<Cpu, float>, SessionType<Cuda, bf16>, SessionType<Cuda, float>>;
#else
using ProgramTypes = SessionTypes<SessionType<Cpu, float>, SessionType<Cpu, bf16>>;
/// Of programs that are compiled for one scalar type on the CPU.
using PlainProgramTypes = SessionTypes<SessionType<Cpu, float>>;
#endif

namespace detail {
/// What to do about --device NAME where no type of the program has it. `devices` are those that it has.
std::string missing_device_text(const std::string& program, const std::string& device, const std::string& devices);
/// Refuses a device that cannot work here. A plan of a device that can count is made without one.
template <class D>
void require_ready(bool plans) {
  if (plans && CountsMemory<D>) return;
  if constexpr (requires { Memory<D>::require_ready(); }) Memory<D>::require_ready();
}
}  // namespace detail

/// Calls f(SessionType<D, T>{}) for the type of the list that the words name; auto takes the device's first.
/// SettingsError says what the program has instead; BackendError, what the device lacks, but where it `plans` alone.
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
