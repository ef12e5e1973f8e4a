"""``record``: one session of feedback."""

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, checked_seed, open_log, policy_folder
from rlhf_audit.errors import UsageError
from rlhf_audit.log.store import Log

if TYPE_CHECKING:
    from rlhf_audit.raters.base import FeedbackSource
    from rlhf_audit.recording.record import Recorded, Request

EXAMPLE = "rlhf-audit record study --env CartPole-v1 --rater r-1a2b3c4d --source terminal --ask every:10"

_Kind = Literal["rating", "comparison", "correction", "demonstration"]


_Algorithm = Literal["likelihood", "article"]

_Rater = Annotated[str, typer.Option(metavar="R", help="Who gives the feedback.")]
_Source = Annotated[str, typer.Option(metavar="terminal|scripted:NAME", help="How they give it.")]
_EnvId = Annotated[
    str | None, typer.Option(metavar="ID", help="The environment; may be left out with --rate.")
]
_Policy = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Who acts: a policy that retrain wrote.  [default: the untrained network]"
    ),
]
_Learn = Annotated[bool, typer.Option("--learn", help="Let the policy learn from each answer.")]
_How = Annotated[_Algorithm | None, typer.Option(help="How it learns with --learn.  [default: likelihood]")]
_To = Annotated[Path | None, typer.Option(metavar="policies/NAME", help="Where to save what was learnt.")]
_Ask = Annotated[
    str | None,
    typer.Option(
        metavar="every:N",
        help="Ask about every N-th step.  [default: every:1, or with --rate as in that session]",
    ),
]
_MaxFeedback = Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop after so many answers.")]
_Episodes = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Stop after so many episodes.  [default: 1 for a script without a limit, all with --rate]",
    ),
]
_Rate = Annotated[
    str | None, typer.Option(metavar="SESSION", help="Rate the steps of a recorded session again.")
]
_Info = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY", help="Keep this key of the environment's info; may be given again."),
]
_Observations = Annotated[
    Literal["full", "hashed"],
    typer.Option(help="Keep each observation, or only a hash that replay --materialise turns back."),
]
_DrawnSeed = Annotated[
    int | None,
    typer.Option(
        metavar="S",
        callback=checked_seed,
        help="Root of every random draw.  [default: drawn, and told at the end]",
    ),
]


def run(
    log_path: LogPath,
    rater: _Rater,
    source: _Source,
    env: _EnvId = None,
    kind: Annotated[_Kind, typer.Option(help="What is asked for.")] = "rating",
    policy: _Policy = None,
    learn: _Learn = False,
    algorithm: _How = None,
    to: _To = None,
    ask: _Ask = None,
    max_feedback: _MaxFeedback = None,
    episodes: _Episodes = None,
    rate: _Rate = None,
    info: _Info = None,
    observations: _Observations = "full",
    seed: _DrawnSeed = None,
    as_json: AsJson = False,
) -> None:
    """Record one session of feedback.

    The agent acts, and the rater says whether each action was right.

    At a terminal single keys answer: 1 yes, 0 no, s skip, u undo, p pause, w withdraw now, q quit, ? help.
    Without one, each line of the input is an answer.
    """
    from rlhf_audit.log import reader
    from rlhf_audit.recording.record import Request, record
    from rlhf_audit.types import Kind

    if algorithm is not None and not learn:
        raise UsageError("--algorithm is how a policy learns", needed="--learn with it", fix="add --learn")
    if episodes is None and max_feedback is None and rate is None and source != "terminal":
        episodes = 1
    asked = _every(ask) if ask is not None else 1
    log = open_log(log_path)
    if rate is not None and ask is None:
        # Whoever rates again is to be asked about the same steps.
        asked = reader.session_facts(log, rate)["ask_every"]
    request = Request(
        rater_id=rater,
        source=source,
        env_id=env,
        kind=Kind(kind),
        policy=policy,
        learn=(algorithm or "likelihood") if learn else None,
        to=policy_folder(to, log) if to is not None else None,
        ask_every=asked,
        episodes=episodes,
        max_feedback=max_feedback,
        rates=rate,
        seed=secrets.randbits(32) if seed is None else seed,
        info=tuple(info or ()),
        observations=observations,
    )
    with _console.Progress() as progress:
        tell = (
            None if source == "terminal" else lambda done: progress.count("question", done + 1, max_feedback)
        )
        recorded = record(log, request, lambda: _terminal(log, request), tell)
    _report(log, log_path, request, recorded, as_json)


def _every(text: str) -> int:
    match = re.fullmatch(r"every:([1-9][0-9]{0,8})", text)
    if match is None:
        raise UsageError(
            "--ask can't be read", seen=repr(text[:40]), needed="every:N, N from 1", fix="--ask every:10"
        )
    return int(match[1])


def _terminal(log: Log, request: "Request") -> "FeedbackSource":
    from rlhf_audit import envs, meanings
    from rlhf_audit.log import reader
    from rlhf_audit.raters.panels import goal
    from rlhf_audit.raters.terminal import TerminalSource

    if request.rates is not None:
        recorded = reader.session_facts(log, request.rates)["env"]
        env_id = recorded["env_id"]
        measures = meanings.measures(env_id, recorded["observation_space"])
        return TerminalSource(measures, goal=goal(env_id))
    assert request.env_id is not None
    env = envs.open_env(request.env_id)
    try:
        space = envs.describe(env).observation_space
    finally:
        env.close()
    return TerminalSource(meanings.measures(request.env_id, space), goal=goal(request.env_id))


def _report(log: Log, log_path: Path, request: "Request", recorded: "Recorded", as_json: bool) -> None:
    from rlhf_audit.consent import register

    text = "Nothing was given, so nothing was recorded."
    if recorded.session_id is not None:
        text = (
            f"{recorded.session_id}: {_console.many(recorded.feedback, 'answer')} kept, on"
            f" {_console.many(recorded.steps, 'step')} in {_console.many(recorded.episodes, 'episode')},"
            f" seed {request.seed}"
        )
        if request.rates is not None:
            answers = _console.many(recorded.feedback, "answer")
            text = f"{recorded.session_id}: {answers} kept, on the steps of {request.rates}"
    if recorded.session_id is not None and request.learn:
        text += f"\nweights {recorded.weights_sha256}"
        text += f"\nsaved in {request.to}" if request.to and not recorded.withdrew else ""
    if recorded.withdrew:
        text += (
            "\nYou have withdrawn. From now on nothing that you gave is used, and within"
            f" {register.ERASE_WITHIN_DAYS} days all of it"
            "\nis deleted and you get a receipt. You need do nothing more; thank you."
            f"\nFor whoever runs this study: rlhf-audit erase {log_path} {request.rater_id} --apply"
        )
    result = {
        "session_id": recorded.session_id,
        "episodes": recorded.episodes,
        "steps": recorded.steps,
        "feedback": recorded.feedback,
        "weights_sha256": recorded.weights_sha256,
        "seed": request.seed,
        "withdrew": recorded.withdrew,
    }
    _console.emit("record", log.ledger.head, result, text, as_json)
