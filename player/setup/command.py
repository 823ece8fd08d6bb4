"""`drba setup`: from a fresh installation to in-between frames in the viewer's own mpv; `drba uninstall-script` undoes it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from drba.errors import DrbaError, InputError

if TYPE_CHECKING:
    from drba.models import ModelSpec

    from .check import Check
    from .trial import Trial

TRIAL_S = 10
#: Problems with which the rest makes no sense.
NEEDED = ("python", "packages", "mpv", "folder:runtime", "folder:logs", "folder:data")
FITTING = "1080p"  # the size that a network must be fast enough for

SETUP = f"""\
Makes DRBA work in your own mpv: checks the machine, copies drba.lua and its options file into mpv's configuration
folder, fetches the best network that your graphics card is fast enough for and builds its engines (without a card what is in
the package plays), then plays {TRIAL_S} s of a clip that it draws itself and says how that went.

Run it again after an update, or when `drba doctor` says so: what is in place is left as it is. A file that you have
changed is never written over, unless you say --force, and then it is kept in a backup."""
SETUP_EPILOG = "Afterwards: mpv film.mkv, then D. To take the script out of mpv again: drba uninstall-script."
UNINSTALL = """\
Removes drba.lua and its options file from mpv's configuration folder, if they are as `drba setup` wrote them. What you
have changed since, or put there yourself, stays; a line says so. Models and settings of drba-player stay too."""


def add_parser(subparsers: Any) -> None:
    setup = subparsers.add_parser(
        "setup",
        help="make DRBA work in your mpv: script, model, a trial",
        description=SETUP,
        epilog=SETUP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    setup.add_argument("-y", "--yes", action="store_true", help="ask nothing")
    setup.add_argument("--force", action="store_true", help="replace changed files too; they are kept in a backup")
    setup.add_argument("--model", metavar="NAME", help="fetch this model instead of choosing one; flow fetches none")
    setup.add_argument("--mirror", metavar="URL", help="download from URL/PATH instead of https://github.com/PATH")
    setup.add_argument("--no-trial", action="store_true", help="do not play the clip at the end")
    setup.set_defaults(run=run_setup)
    uninstall = subparsers.add_parser(
        "uninstall-script",
        help="take drba.lua out of mpv's configuration again",
        description=UNINSTALL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    uninstall.set_defaults(run=run_uninstall)


def run_setup(arguments: argparse.Namespace) -> int:
    from .. import paths
    from . import doctor, mpv_config

    if not arguments.yes and not sys.stdin.isatty():
        raise InputError("setup has a question and nobody can answer it here; give --yes")
    models = _wanted(arguments.model)
    print("checking this machine ...", flush=True)
    checks = _look(doctor.machine_checks())
    doctor.show(checks, only=lambda check: check.state in ("warn", "problem"))
    if any(check.state == "problem" and check.name in NEEDED for check in checks):
        print("setup cannot go on; see to the above and run it again")
        return 1
    if arguments.model is None and not cuda_works(checks):
        models = []
    plan = [
        f"copy drba.lua to {mpv_config.script_path()}",
        f"write {mpv_config.options_path()}, where its options are explained (command={paths.drba_program()})",
        _model_plan(models, chosen=arguments.model is not None),
    ]
    if cuda_works(checks):
        plan.append("build its engines, where it has any that are built: minutes, once for each size")
    if not arguments.no_trial:
        plan.append(f"play {TRIAL_S} s of a clip in mpv")
    print("setup will", *plan, sep="\n  - ")
    if not arguments.yes and not _confirmed():
        print("nothing was changed")
        return 0
    faulty = _install(arguments.force)
    fetched = _fetch(models, arguments.mirror, choose=arguments.model is None)
    built = not cuda_works(checks) or _build_engines()
    played = arguments.no_trial or _trial()
    return 0 if played and built and fetched and not faulty else 1


def _look(examinations: Sequence[tuple[str, Any]]) -> list[Check]:
    from .check import run_checks
    from .doctor import TIMEOUT_S

    return run_checks(examinations, TIMEOUT_S)


def cuda_works(checks: Iterable[Check]) -> bool:
    return any(check.name == "cuda" and check.state == "ok" for check in checks)


def _confirmed() -> bool:
    try:
        return input("Go on? [Y/n] ").strip().lower() in ("", "y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        return False


# --- the script -------------------------------------------------------------------------------------------------------


def _install(force: bool) -> bool:
    """Put the script and its options where mpv reads them; whether something is wrong with what was left of the viewer's."""
    from .. import paths
    from . import doctor, install, mpv_config, script_conf

    files = (
        (mpv_config.script_path(), paths.lua_script().read_bytes()),
        (mpv_config.options_path(), script_conf.default_text(paths.drba_program()).encode()),
    )
    kept = []
    for path, content in files:
        done = install.put(path, content, force=force)
        if done.action == "kept":
            kept.append(path)
            print(f"{path}: yours, left as it is; --force replaces it and keeps a backup")
        else:
            backup = f"; what was there is now {done.backup}" if done.backup else ""
            print(f"{path}: {done.action}{backup}")
    if not kept:
        return False
    # What the viewer has changed may be just as good.
    faults = [
        check for check in _look(doctor.installation_checks()) if check.name.startswith("script") and check.remedy
    ]
    doctor.show(faults)
    return bool(faults)


def run_uninstall(arguments: argparse.Namespace) -> int:
    from . import install, mpv_config

    words = {
        "removed": "removed",
        "left": "was changed since drba setup wrote it, left as it is",
        "gone": "was not there any more",
    }
    done = install.remove_all()
    for item in done:
        print(f"{item.path}: {words[item.state]}")
    if mpv_config.script_installed() and not any(item.state == "left" for item in done):
        print(f"{mpv_config.script_path()}: not installed by drba setup, left as it is")
    elif not done:
        print("drba setup has installed nothing here")
    return 0


# --- the model --------------------------------------------------------------------------------------------------------


def _wanted(name: str | None) -> list[ModelSpec]:
    """What to fetch: the model asked for, or those to try, best first. Only ones whose files' digests are known beforehand
    are downloaded without being asked for."""
    from drba.models import find

    if name is not None:
        model = find(name)
        return [model] if model.needs_weights and not model.shipped else []
    from engines.choice import CANDIDATES

    models = (model for model in map(find, CANDIDATES) if not model.shipped)
    return [model for model in models if all(part.digest is not None for part in model.parts)]


def _model_plan(models: Sequence[ModelSpec], *, chosen: bool) -> str:
    if not models:
        return f"fetch no network: {_without_download()}"
    if chosen:
        return f"fetch {models[0].name}"
    names = ", ".join(model.name for model in models)
    return f"fetch the first of these that is fast enough here at {FITTING}: {names}"


def _fetch(models: Sequence[ModelSpec], mirror: str | None, *, choose: bool) -> bool:
    """Whether all is well. A network that cannot be fetched is no fault of the machine: the flow-only model plays."""
    try:
        name = fetch_fitting(models, lambda model: _download(model, mirror), _fits if choose else lambda _: True)
    except DrbaError as error:
        print(f"no network was fetched ({error}); {_without_download()}")
        return choose
    if name is None and models:
        print(f"none of these is fast enough here at {FITTING}; {_without_download()}")
    return True


def _without_download() -> str:
    """What plays without a network that was fetched."""
    from drba import weights
    from drba.models import models

    there = [model.name for model in models() if model.shipped and weights.is_installed(model)]
    if not there:
        return "the flow-only model plays"
    return f"{' or '.join(there)}, in the package, plays where it is fast enough, else the flow-only model"


def fetch_fitting(
    models: Sequence[ModelSpec], download: Callable[[ModelSpec], None], fits: Callable[[ModelSpec], bool]
) -> str | None:
    """Download models in this order until one fits; its name, or None."""
    for model in models:
        download(model)
        if fits(model):
            return model.name
    return None


def _download(model: ModelSpec, mirror: str | None) -> None:
    from drba.downloads import fetch

    from ..models_cli import progress_bar

    with progress_bar(model) as progress:
        parts = fetch(model, progress=progress, base_url=mirror)
    print(f"{model.name}: {'fetched' if any(part.new for part in parts) else 'is here already'}", flush=True)


def _fits(model: ModelSpec) -> bool:
    """Whether `--model auto` would take it."""
    from .check_models import check_speed

    check = _look([(f"speed:{FITTING}", lambda: check_speed(FITTING))])[-1]
    print(f"{FITTING} {check.found}", flush=True)
    return check.data.get("model") == model.name


def _build_engines() -> bool:
    """Build what the best model here needs before it plays; whether that went well. Films play meanwhile, so none has to
    wait for it, but the first one would be the slower for it."""
    from .check_models import installed_candidates
    from .engines import build, missing_builds

    well = True
    for model, size, engine in missing_builds(installed_candidates()[:1]):
        print(f"building {model.name} for {size} on {engine.name}: this takes minutes ...", flush=True)
        if failure := build(model, size, engine):
            print(failure)
            well = False
    return well


# --- the trial --------------------------------------------------------------------------------------------------------


def _trial() -> bool:
    from .. import paths
    from .mpv_facts import mpv_facts
    from .trial import play_trial

    clip = paths.demo_clip()
    where = "" if paths.has_display() else " (there is no display: to its null output)"
    print(f"playing {TRIAL_S} s in mpv{where} ...", flush=True)
    trial = play_trial(mpv_facts().program, clip, TRIAL_S)
    if not trial.interpolated:
        print(
            f"drba: no in-between frame was shown: {_why_not(trial)}; see `drba doctor` and `drba logs`",
            file=sys.stderr,
        )
        return False
    print(trial.report.summary())
    if not trial.smooth:
        print(
            "Many frames were late or dropped: other programs keep the machine busy, or it is too slow; `drba doctor` measures"
        )
    print("DRBA works. Play a film with mpv and press D, or with drba-player.")
    return True


def _why_not(trial: Trial) -> str:
    if not trial.loaded:
        return "mpv did not load drba.lua"
    if not trial.came_on:
        return trial.said[-1] if trial.said else "DRBA did not come on"
    return "none was ready in time, other programs keep the machine busy or it is too slow"
