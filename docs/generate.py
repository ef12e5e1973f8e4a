"""Makes ``docs/cli.md`` from the app: ``python -m docs.generate``; with ``--check`` it only compares."""

import sys
from pathlib import Path

import typer

from rlhf_audit.cli.app import PROGRAM, app

TARGET = Path(__file__).with_name("cli.md")
_WIDTH = 100
_PREFACE = """\
# The command line

<!-- Made from the app by `make docs`; a test compares. -->

`LOG` may come from `RLHF_AUDIT_LOG` in every verb. Results go to standard output, everything else to standard
error. Exit codes are in [exit-codes.md](exit-codes.md).

## `--json`

Every verb then prints exactly one document:

```json
{"schema": "rlhf_audit.VERB/1", "log_head": {"size": 12, "root": "64 hex digits"}, "result": {}}
```

`log_head` is the ledger's size and Merkle root when the verb ended; null where no log is read. Keys of
`result` that other programs may rely on:

| verb | keys |
|---|---|
| demo | `log, report, receipt, replayed_identical, mean_return, weights_sha256, control_weights_sha256, \
findings, verified` |
| init | `log, log_id, format_version, public_key, terms_sha256` |
| terms | `terms_sha256, version, to_ask[]` |
| enroll | `rater_id, withdrawal_code, scripted` |
| consent | `grant_id, rater_id, purposes, refused, expires_at`; with `--invalidate` \
`rater_id, invalidated[]` |
| record | `session_id, episodes, steps, feedback, weights_sha256, seed, withdrew` |
| replay | `identical, steps, first_difference{session_id, episode_id, step, field} or null, \
sessions[{session_id, identical, steps, scope, note}]`; with `--materialise` \
`materialised{folder, files}`, with `--video` `video{file, frames, feedback, raters}` |
| retrain | `policy, name, weights_sha256, rows, raters, algorithm, mode, seed, excluded` |
| evaluate | `policy, env_id, weights_sha256, mean_return, lower, upper, episodes, sampled, seed` |
| audit | `findings[], audits[{id, question, severity, parameters, rows[]}]`; with `--print-sql` `sql` |
| report | `html, json, markdown, tables[], findings` |
| withdraw | `rater_id, purposes, erase_by` |
| erase | `rater_id, applied, rows, files, policies[{name, before, after}], reports, exports, receipt` |
| export | `path, format, purpose, recipient, rows, raters[], names{rater_id: name in the export}, steps, \
episodes, files`; with `--rater` `path, format, rows, raters[], holds{}`; with `--told` `told, recipient` |
| import | `session_id, rows, raters[], rater_id, grant_id, withdrawal_code or null, env_id, episodes, \
| import --format ratings | `rows, raters[], withdrawal_codes{}, sessions[], items, labels[], gold` |
steps, unseeded` |
| compact | `files_before, files_after, bytes_before, bytes_after, files[{path, rows, bytes, merged}]` |
| verify | `ok, entries, files, problems[{file, problem}], \
since[{name, size, root, proof[], problem or null}]` |
| anchor | `path, size, root` |
| rotate-key | `public_key, replaces, lost, entry, key_file or null` |
| show | `what, rows[]` |
| sql | `columns, rows[]` |
"""


def markdown() -> str:
    """Return the whole page."""
    root = typer.main.get_command(app)
    context = typer.Context(
        root, info_name=PROGRAM, terminal_width=_WIDTH, max_content_width=_WIDTH, **root.context_settings
    )
    parts = [_PREFACE, _section(context)]
    for name, command in root.commands.items():
        parts.append(_section(typer.Context(command, info_name=name, parent=context)))
    return "\n".join(parts)


def _section(context: typer.Context) -> str:
    lines = [line.rstrip() for line in context.command.get_help(context).splitlines()]
    return "\n".join([f"## {context.command_path}", "", "```text", *lines, "```", ""])


if __name__ == "__main__":
    text = markdown()
    if sys.argv[1:] == ["--check"]:
        if not TARGET.exists() or TARGET.read_text("utf-8") != text:
            sys.exit(f"{TARGET} is not what the app says: make docs")
    else:
        TARGET.write_text(text, "utf-8")
