"""The command `contrastax run`: trains, evaluates and resumes one experiment, see `HELP`."""

from __future__ import annotations

import functools
import shlex
import time
from contextlib import suppress

from jax.sharding import Mesh
from ml_collections import ConfigDict

from contrastax.evaluation import online_probe, with_online_probe
from contrastax.experiments import commandline, page, report
from contrastax.experiments.build import Parts, build, encoder_spec, network_specs
from contrastax.experiments.cache import keep_programs
from contrastax.experiments.schema import flat, modules_of
from contrastax.experiments.sweep import sweep
from contrastax.experiments.weights import resolved
from contrastax.experiments.workdir import Workdir
from contrastax.files import remove
from contrastax.training import Interrupted, Loggers, Stop, make_mesh, train, with_average
from contrastax.training.description import without_files
from contrastax.training.mesh import describe, idle_gpu

HELP = """Trains, evaluates and resumes one experiment.

  contrastax run digits_simclr                  an example config; `contrastax configs` lists them
  contrastax run digits_simclr:runlocal         its preset `runlocal`, a run of seconds
  contrastax run my_config.py --dry_run         print shapes, sizes and memory; train nothing
  contrastax run digits_simclr --config.batch_size=128 --workdir=runs/small
  contrastax run digits_simclr --sweep.optimizer.learning_rate=1e-3,4e-3 --config.validation=200

In a checkout, `python -m experiments.run --config=configs/digits_simclr.py` is the same program.
The folder --workdir (by default runs/<config>) receives checkpoints/, metrics.jsonl, tensorboard/,
figures/, config.json (with all defaults), run.json (versions, devices, commit), encoder.json and, at
the end, summary.json and report.html, a page with the results, figures and warnings of the run. The
same command resumes a run that was stopped. Then only steps, stream, loggers, log_every, eval_every
and checkpoint_every may differ. `contrastax.load(workdir)` returns the encoder.

--sweep.KEY=VALUE,VALUE makes one run for each value, and several such flags make a grid. The folder
--workdir (by default runs/<config>_sweep) has a folder for each run, a table of all runs in
compare.html, and sweep.json. The same command resumes a sweep: finished runs are skipped. The best run
is chosen by --by=COLUMN (linear, knn, linear_1 or linear_5; effective_rank without labels) on the
held-out training examples, so config.validation must not be 0. The command of a final run with the
chosen values is printed.

Compiled programs are kept for the next run in the user's cache folder, which is ~/.cache/contrastax on
Linux. JAX_ENABLE_COMPILATION_CACHE=false switches the cache off, and JAX_COMPILATION_CACHE_DIR moves
it.

Exit status: 0 finished; 2 invalid input, explained in one line; 3 the run diverged: a metric is not
finite, or the embeddings collapsed with stop_on_collapse; 129, 130 or 143 stopped by SIGHUP (the
terminal was closed), SIGINT or SIGTERM, after a checkpoint was saved.
"""


def main(argv: list[str]) -> int:
  """Runs one command line and returns its exit status.

  Args:
    argv: the program's name and the arguments.
  """
  try:
    return commandline.status(functools.partial(_main, argv))
  except Interrupted as interrupted:
    with suppress(OSError):  # the terminal may be closed
      print(f"{interrupted}: stopped; to resume:\n{commandline.format_command(argv)}", flush=True)
    return interrupted.code


def _main(argv: list[str]) -> None:
  with Stop() as stop:
    options = commandline.parse(argv, HELP)
    if options is None:
      return
    keep_programs()
    mesh = make_mesh()
    print(f"devices: {describe(mesh)}", flush=True)
    if idle_gpu():
      print(
        "warning: the machine has an NVIDIA GPU, but JAX runs on the CPU; "
        "pip install -e '.[cuda12]'"
      )
    if options.arms:

      def run_arm(config: ConfigDict, parts: Parts, workdir: Workdir, own: list[str]) -> None:
        run(config, parts, mesh, workdir, stop, own)

      sweep(options, argv, mesh, run_arm)
      return
    config = resolved(options.config)
    parts = build(config, mesh)
    if options.dry_run:
      report.dry_run(config.to_dict(), parts, mesh)
      return
    with Workdir(options.workdir, config, argv) as workdir:
      run(config, parts, mesh, workdir, stop, argv)


def run(
  config: ConfigDict, parts: Parts, mesh: Mesh, folder: Workdir, stop: Stop, argv: list[str]
) -> None:
  """Trains an experiment, from its newest checkpoint if there is one, and evaluates it.

  Args:
    config: the completed config.
    parts: the experiment.
    mesh: the devices.
    folder: the folder of the run, entered.
    stop: the handler of signals, entered.
    argv: the command line, for the messages.
  """
  workdir, settings = folder.path, config.to_dict()
  start = time.perf_counter()
  method = parts.method
  if settings["average"] is not None:
    method = with_average(method, settings["average"])
  if settings["online_probe"]:
    method = with_online_probe(method, online_probe(len(parts.dataset.classes)))
  state = train(
    method,
    parts.optimizer,
    parts.source,
    steps=settings["steps"],
    seed=settings["seed"],
    workdir=workdir,
    mesh=mesh,
    stop=stop,
    evaluate=functools.partial(report.progress, settings, parts),
    refresh=parts.refresh,
    log_every=settings["log_every"],
    eval_every=settings["eval_every"],
    checkpoint_every=settings["checkpoint_every"],
    accepted=folder.accept,
    loggers=Loggers(settings["loggers"], flat(settings)),
    encoder=without_files(encoder_spec(config, parts.method.evaluated.network)),
    networks=without_files(network_specs(config, parts.method)),
  )
  if not report.is_finished(workdir, settings["steps"]):
    remove(workdir / page.NAME)  # It describes an earlier end of the run.
    report.finish(settings, parts, mesh, workdir, state, time.perf_counter() - start)
  if not (workdir / page.NAME).is_file():
    page.write(settings, parts, workdir, report.encoder_of(parts.method, state))
  modules = modules_of(settings)
  allow = f", allow={modules}" if modules else ""
  flag = f" --allow={','.join(modules)}" if modules else ""
  print(
    f"see {workdir}/{page.NAME}, summary.json and figures/; "
    f"contrastax.load('{workdir}'{allow}) returns the encoder;\n"
    f"all measurements: {commandline.program(argv, 'evaluate')} "
    f"{shlex.quote(str(workdir))}{flag}"
  )
