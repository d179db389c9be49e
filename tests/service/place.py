# SPDX-License-Identifier: Apache-2.0
"""Folders and services of one test, and the program that runs a file of tests."""
import argparse
import json
import pathlib
import subprocess
import tempfile
import time
import traceback

from client import Service, clean, fake_programs, wait_for

TESTS = []


def test(function):
    TESTS.append(function)
    return function


class Place:
    """Folders and the service of one test."""

    def __init__(self, program, folder):
        self.program, self.folder = program, clean(folder)
        self.programs = fake_programs(self.folder / "bin")
        self.data = self.folder / "data"
        (self.data / "teacher").mkdir(parents=True)
        (self.data / "teacher" / "config.json").write_text("{}")
        (self.data / "prompts.jsonl").write_text('{"prompt":"a"}\n' * 20)
        self.services = []

    def start(self, *more, env=None):
        self.services.append(Service(self.program, self.folder, self.programs, [self.data], *more, env=env))
        return self.services[-1]

    def body(self, **more):
        return {"teacher_model_path": str(self.data / "teacher"), "validation_prompts_path": "prompts.jsonl",
                "num_steps": 20, "checkpoint_every": 5, **more}

    def close(self):
        for service in self.services:
            if service.process.poll() is None:
                for run in service.get("opd/runs")[1].get("runs", []):
                    if run["status"] in ("queued", "starting", "running", "stopping"):
                        service.post("opd/stop", {"run_id": run["run_id"], "force": True})
                wait_for(lambda: not [r for r in service.get("opd/runs")[1]["runs"]
                                      if r["status"] in ("queued", "starting", "running", "stopping")])
                service.stop()


def started(service, body):
    status, answer = service.post("opd/start", body)
    assert status == 202, (status, answer)
    return answer["run_id"]


def pids(service, run):
    return wait_for(lambda: json.loads((service.runs / ".service" / f"{run}.pids").read_text())
                    if (service.runs / ".service" / f"{run}.pids").exists() else None)


def start_alone(place, *words):
    """A service that is to end by itself."""
    return subprocess.run([str(place.program), f"--bin={place.programs}", *words], capture_output=True, text=True,
                          timeout=60)


def run_tests():
    """Runs every test of the program, or those that its command line names; its exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", required=True)
    parser.add_argument("--work")
    parser.add_argument("names", nargs="*")
    chosen = parser.parse_args()
    work = pathlib.Path(chosen.work or tempfile.mkdtemp(prefix="kdlib-service-")).resolve()
    failed = 0
    for one in TESTS:
        if chosen.names and one.__name__ not in chosen.names:
            continue
        begin = time.monotonic()
        place = Place(pathlib.Path(chosen.serve).resolve(), work / one.__name__)
        try:
            one(place)
            word = "passed"
        except Exception:  # every test is told, not only the first that fails
            traceback.print_exc()
            word, failed = "FAILED", failed + 1
        finally:
            place.close()
        print(f"{word}  {one.__name__}  {time.monotonic() - begin:.1f} s", flush=True)
    return 1 if failed else 0

