// SPDX-License-Identifier: Apache-2.0
// Makes the n-th write, fsync or rename of this process fail, or kill the process. Linking fault_hook.cpp is enough.
// The environment KDLIB_FAULT = "kind:n:kill" raises SIGKILL before the n-th call (from 1) of that kind;
// "kind:n:enospc" lets that call and all later ones of the kind answer ENOSPC, as a full disk does.
#ifndef KDLIB_TESTS_SUPPORT_FAULT_HOOK_HPP
#define KDLIB_TESTS_SUPPORT_FAULT_HOOK_HPP

namespace kdlib_tests {

/// Calls of a kind ("write", "fsync" or "rename") since the process started or since reset_fault_counts().
long fault_count(const char* kind);
void reset_fault_counts();

}  // namespace kdlib_tests

#endif
