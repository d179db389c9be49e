# SPDX-License-Identifier: Apache-2.0
# Sourced; the caller sets `work`, a folder.
# refuses <text> <command...>: the command must fail and say the text
refuses() {
  local text=$1
  shift
  if "$@" >"$work/refusal.log" 2>&1; then echo "was accepted: $*"; exit 1; fi
  if tr -s ' \n' ' ' <"$work/refusal.log" | grep -qF -- "$text"; then return; fi
  cat "$work/refusal.log"
  echo "the message lacks: $text"
  exit 1
}
