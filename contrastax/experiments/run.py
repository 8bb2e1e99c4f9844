"""Trains, evaluates, resumes and explains one experiment; `HELP` says how."""

from __future__ import annotations

import functools
import shlex
import time
from contextlib import suppress

from contrastax import data
from contrastax.annotations import PLACE
from contrastax.evaluation import online_probe, with_online_probe
from contrastax.experiments import commandline, report
from contrastax.experiments.build import build, encoder_spec
from contrastax.experiments.cache import keep_programs
from contrastax.experiments.schema import flat
from contrastax.experiments.workdir import Workdir
from contrastax.training import Interrupted, Stop, make_mesh, train
from contrastax.training.mesh import describe, idle_gpu

HELP = """Trains, evaluates, resumes and explains one experiment.

  contrastax run digits_simclr                  an example config; `contrastax configs` lists them
  contrastax run digits_simclr:runlocal         a run of seconds
  contrastax run my_config.py --dry_run         shapes, sizes and memory; trains nothing
  contrastax run digits_simclr --config.batch_size=128 --workdir=runs/small

In a checkout, `python -m experiments.run --config=configs/digits_simclr.py` is the same program.
--workdir (default runs/<config>) gets checkpoints/, metrics.jsonl, tensorboard/, figures/,
config.json (with all defaults), run.json (versions, devices, commit), encoder.json and, at the end,
summary.json. The same command resumes a run that was stopped. Then only steps, log_every,
eval_every and checkpoint_every may differ. `contrastax.load(workdir)` gives the encoder.

Compiled programs are kept for the next run in the user's cache folder, which is ~/.cache/contrastax on
Linux. JAX_ENABLE_COMPILATION_CACHE=false switches the cache off, and JAX_COMPILATION_CACHE_DIR moves
it.

Exit status: 0 finished; 2 invalid input, explained in one line; 3 the run diverged: a metric is not
finite, or the embeddings collapsed with stop_on_collapse; 129, 130 or 143 stopped by SIGHUP (the
terminal was closed), SIGINT or SIGTERM, after saving a checkpoint.
"""


def main(argv: list[str]) -> int:
  """The exit status of one command line."""
  try:
    return commandline.status(functools.partial(_main, argv))
  except Interrupted as interrupted:
    with suppress(OSError):  # the terminal may be closed
      print(f"{interrupted}: stopped; to resume:\n{commandline.format_command(argv)}", flush=True)
    return interrupted.code


def _main(argv):
  with Stop() as stop:
    options = commandline.parse(argv, HELP)
    if options is None:
      return
    keep_programs()
    mesh = make_mesh()
    print(f"devices: {describe(mesh)}", flush=True)
    if idle_gpu():
      print("warning: an NVIDIA GPU is here, but JAX runs on the CPU; pip install -e '.[cuda12]'")
    parts = build(options.config, mesh)
    if options.dry_run:
      report.dry_run(options.config, parts, mesh)
      return
    with Workdir(options.workdir, options.config, argv) as workdir:
      run(options.config, parts, mesh, workdir, stop, argv)


def run(config, parts, mesh, held: Workdir, stop: Stop, argv: list[str]) -> None:
  """Trains to the end, or goes on from where a run before it stopped; then judges."""
  workdir = held.path
  start = time.perf_counter()
  method = parts.method
  if config.online_probe:
    method = with_online_probe(method, online_probe(len(parts.dataset.classes)))
  state = train(
    method,
    parts.optimizer,
    parts.source,
    steps=config.steps,
    seed=config.seed,
    workdir=workdir,
    mesh=mesh,
    stop=stop,
    evaluate=functools.partial(report.progress, config, parts),
    refresh=parts.refresh,
    log_every=config.log_every,
    eval_every=config.eval_every,
    checkpoint_every=config.checkpoint_every,
    accepted=held.accept,
    encoder=encoder_spec(config, parts.method.evaluated.network),
  )
  if not report.is_finished(workdir, config.steps):
    report.finish(config, parts, mesh, workdir, state, time.perf_counter() - start)
  texts = [each for each in flat(config.to_dict()).values() if isinstance(each, str)]
  modules = {each.partition(":")[0] for each in texts if PLACE.fullmatch(each)} - {*data.KINDS}
  allow = f", allow={tuple(sorted(modules))}" if modules else ""
  flag = f" --allow={','.join(sorted(modules))}" if modules else ""
  print(
    f"see {workdir}/summary.json and {workdir}/figures/; "
    f"contrastax.load('{workdir}'{allow}) returns the encoder;\n"
    f"all measurements: {commandline.program(argv, 'evaluate')} "
    f"--workdir={shlex.quote(str(workdir))}{flag}"
  )
