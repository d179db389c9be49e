#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Behaves as distil does towards the service: options, metrics, checkpoints, signals. Its seed chooses a fate:
666 ends with an error, 667 ignores requests to stop, 668 finds the disk full, 669 writes a loss that is no number,
670 and 671 end with an error that only the status file tells (no memory, a full disk), 672 with status 75."""
import fcntl
import json
import os
import pathlib
import signal
import sys
import time

STEP_SECONDS = float(os.environ.get("FAKE_STEP", "0.03"))


def option(name, kind, default="", value="", **more):
    return {"name": name, "type": kind, "value": value, "unit": "", "help": f"the option {name}", "group": "Fake",
            "default": default, "required": False, "positional": False, **more}


SCHEMA = {"program": "distil", "purpose": "fake", "options": [
    option("teacher", "text", value="MODEL"), option("student", "text", value="MODEL"),
    option("student-adapter", "text", value="DIR"), option("prompts", "text", value="FILE"),
    option("data", "text", value="FILE"), option("validation", "text", value="FILE"),
    option("template", "text", value="NAME|FILE"), option("loss", "list", "forward_kl", "SUM"),
    option("steps", "integer", "30", "N", at_least=1), option("batch", "integer", "8", "N", at_least=1),
    option("micro-batches", "integer", "1", "N", at_least=1), option("seed", "integer", "1", "N"),
    option("learning-rate", "number", "0.001", "X", above=0), option("temperature", "number", "1", "T", above=0),
    option("lambda", "number", "0", "X", at_least=0, at_most=1), option("save-every", "integer", "0", "N", at_least=0),
    option("evaluate-every", "integer", "0", "N", at_least=0), option("max-prompts", "integer", "0", "N", at_least=0),
    option("max-new-tokens", "integer", "256", "N", at_least=1), option("sample-temperature", "number", "1", "T"),
    option("validation-share", "number", "0", "X", at_least=0, at_most=1), option("recompute", "switch", "off"),
    option("workspace", "integer", "256", "N", at_least=1), option("t-squared", "choice", "auto"),
    option("save", "text", "last", "WHICH", choices=["last", "best", "all"]), option("out", "text", value="DIR"),
    option("status-file", "text", value="FILE"), option("device", "text", "cpu", "NAME"),
    option("resume", "text", "auto", "WHEN")]}
PLAN = {"parameters": {"teacher": 1, "student": 1, "trained": 1}, "memory_bytes": {"weights": 100, "total": 100},
        "machine": {"name": "fake", "memory_bytes": 1000, "fits": True},
        "step": {"training_seconds": 0.1, "writing_seconds": 0.1}, "total_seconds": 6}


class Status:
    """Lines of --status-file."""

    def __init__(self, flags):
        self.path = flags.get("status-file")
        if self.path:
            open(self.path, "w").close()

    def say(self, phase, **more):
        if self.path:
            with open(self.path, "a") as file:
                file.write(json.dumps({"phase": phase, **more}) + "\n")


def claim(out):
    """Two processes of one run at once would be a fault of the service: the folder shows it."""
    lock = open(out / ".fake_lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        (out / "two_at_once").write_text("")
    return lock


def main():
    if sys.argv[1:] == ["--schema"]:
        print(json.dumps(SCHEMA))
        return 0
    flags = dict(word[2:].split("=", 1) if "=" in word else (word[2:], "on") for word in sys.argv[1:])
    if "dry-run" in flags:
        print(json.dumps(PLAN))
        return 0
    out = pathlib.Path(flags["out"])
    steps, seed = int(flags.get("steps", 30)), int(flags.get("seed", 1))
    status, lock = Status(flags), claim(out)
    (out / "arguments.json").write_text(json.dumps(sys.argv[1:]))
    (out / "config.yaml").write_text("".join(f'{k}: "{v}"\n' for k, v in flags.items()))
    print("loading the fake teacher", flush=True)
    status.say("loading", done=0, total=0)
    if seed in (666, 668):
        print("error: " + ("[distil] the fake teacher is broken" if seed == 666 else
                           "[write] out/metrics.jsonl: No space left on device; free some space"), flush=True)
        return 1
    if seed in (670, 671):
        more = {"error": "bad_alloc", "errno": 0} if seed == 670 else {"error": "IoError", "errno": 28}
        status.say("ended", status=1, message="[write] it went wrong", **more)
        return 1
    if seed == 672:
        return 75
    if writing := float(os.environ.get("FAKE_WRITING", "0")):
        print("the teacher writes", flush=True)
        status.say("writing", done=3, total=8)
        time.sleep(writing)
    status.say("training", done=0, total=0)
    stop = []
    if seed == 667:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    metrics, done = out / "metrics.jsonl", 0
    saved = sorted(int(p.name) for p in (out / "checkpoints").glob("*")) if (out / "checkpoints").exists() else []
    if metrics.exists():  # cuts what came after the last checkpoint
        done = saved[-1] if saved else 0
        whole = metrics.read_text().rpartition("\n")[0].splitlines()  # a full disk leaves half a line
        kept = [line for line in whole if json.loads(line)["step"] <= done and "evaluation/forward_kl" not in line]
        metrics.write_text("".join(line + "\n" for line in kept))
        print(f"goes on at step {done}", flush=True)
    with open(metrics, "a") as file:
        for step in range(done + 1, steps + 1):
            time.sleep(STEP_SECONDS)
            loss = "null" if seed == 669 and step == 3 else str(1.0 / step)
            file.write(f'{{"step":{step},"time":{step * STEP_SECONDS},"tokens":{64.0 * step},"train/loss":{loss},'
                       f'"train/forward_kl":{1.0 / step},"train/top1_agreement":0.5,"train/tokens_per_s":100.0,'
                       f'"train/sent":{time.clock_gettime(time.CLOCK_MONOTONIC)}}}\n')
            file.flush()
            if int(flags.get("save-every", 0)) and step % int(flags["save-every"]) == 0 or (stop and seed != 667):
                (out / "checkpoints" / str(step)).mkdir(parents=True, exist_ok=True)
            if stop:
                print("stopped; the same command goes on", flush=True)
                return 143
        file.write(f'{{"step":{steps},"evaluation/forward_kl":0.25}}\n')
    (out / "adapter").mkdir(exist_ok=True)
    (out / "adapter" / "adapter_config.json").write_text("{}")
    (out / "adapter" / "adapter_model.safetensors").write_bytes(b"x" * 100000)
    row = {"model": "m", "forward_kl": 0.5, "reverse_kl": 0.5, "top1_agreement": 0.5, "top5_overlap": 0.5,
           "perplexity": 9.0}
    result = {"steps": steps, "seconds": 1.0, "best_step": steps, "models": [row] * 3, "samples": [], "token_maps": []}
    (out / "result.json").write_text(json.dumps(result))
    (out / "report.html").write_text("<!DOCTYPE html><title>report</title><p>fake")
    return 0


try:
    sys.exit(main())
except OSError as error:
    print(f"error: [write] {error.strerror}", flush=True)
    sys.exit(1)
