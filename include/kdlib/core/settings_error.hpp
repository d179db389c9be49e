// SPDX-License-Identifier: Apache-2.0
// Errors of settings as a kind of their own: a program ends with another status for them than for a failure at work.
#ifndef KDLIB_CORE_SETTINGS_ERROR_HPP
#define KDLIB_CORE_SETTINGS_ERROR_HPP

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings that cannot be used: a value out of its range, settings that contradict each other, or that do not fit the
/// folder of the run. Nothing has been done yet. Programs end with the status of bad usage (tools/report.hpp).
class SettingsError : public ConfigError {
 public:
  using ConfigError::ConfigError;
};

/// Calls check(). A ConfigError of a part of the library that knows nothing of programs becomes a SettingsError.
template <class F>
decltype(auto) checking_settings(F&& check) {
  try {
    return check();
  } catch (const SettingsError&) {
    throw;
  } catch (const ConfigError& error) {
    throw SettingsError(error.what());
  }
}

KDLIB_NAMESPACE_END

#endif
