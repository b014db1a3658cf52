"""``fineline labels``: a team's own labels and its annotated rows, from the definition to the file that trains."""

import typer

from fineline_training.commands.labels import annotating, choosing, corpus, importing, own

app = typer.Typer(
    help="Own labels, annotated rows, agreement of annotators, rows worth labelling.", no_args_is_help=True
)

# In the order of the work, which is the order of the help text: one line a command, one module a step.
app.command("new")(own.new)
app.command("import")(importing.import_)
app.command("guide")(annotating.guide)
app.command("assign")(annotating.assign)
app.command("agreement")(annotating.agreement)
app.command("spotcheck")(annotating.spotcheck)
app.command("clean")(annotating.clean)
app.command("suggest")(choosing.suggest)
app.command("corpus-sample")(corpus.sample)
app.command("corpus-agreement")(corpus.agreement)
